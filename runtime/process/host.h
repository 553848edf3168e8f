#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/value.h"
#include "runtime/actor/new_actor.h"
#include "runtime/process/actor_classes.h"

namespace packcast::internal {

// SpawnOptions on the wire.
struct HostedOptions {
  struct Group {
    std::string name;
    int32_t concurrency = 1;
    template <class V>
    void Fields(V& v) {
      v("name", name);
      v("concurrency", concurrency);
    }
  };
  bool concurrent_control = false;
  int32_t concurrency = 1;
  std::vector<Group> groups;
  int32_t max_restarts = 0;
  int64_t backoff_us = 0;
  int64_t backoff_max_us = 0;
  int64_t healthy_after_us = 0;
  uint64_t mailbox_messages = 0;
  std::map<std::string, std::string> labels;

  template <class V>
  void Fields(V& v) {
    v("concurrent_control", concurrent_control);
    v("concurrency", concurrency);
    v("groups", groups);
    v("max_restarts", max_restarts);
    v("backoff_us", backoff_us);
    v("backoff_max_us", backoff_max_us);
    v("healthy_after_us", healthy_after_us);
    v("mailbox_messages", mailbox_messages);
    v("labels", labels);
  }
  // `detached` has no meaning there: the child's actors belong to nobody.
  static HostedOptions From(const SpawnOptions& options);
  SpawnOptions ToOptions() const;
};

// The actor of a child process that spawns others there for the parent.
class Host {
 public:
  static constexpr char kName[] = "packcast.host";
  static constexpr char kSpawn[] = "spawn";
  struct Request {
    std::string actor_class;
    std::string name;
    Value arguments;  // an array
    HostedOptions options;

    template <class V>
    void Fields(V& v) {
      v("class", actor_class);
      v("name", name);
      v("arguments", arguments);
      v("options", options);
    }
  };

  explicit Host(const ActorClasses* classes) : classes_(classes) {}
  static void Methods(MethodTable<Host>& table) {
    table.Add(kSpawn, &Host::Spawn,
              {.about = "spawns an actor of a class of this program; its incarnation"});
  }
  StatusOr<uint64_t> Spawn(Context& context, const Request& request);

 private:
  const ActorClasses* classes_;
};

}  // namespace packcast::internal
