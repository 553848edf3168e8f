#pragma once

#include <string>

#include "protocol/value.h"
#include "runtime/actor/new_actor.h"
#include "runtime/process/actor_classes.h"

namespace packcast::internal {

// The actor of a child process that spawns others there for the parent.
class Host {
 public:
  static constexpr char kName[] = "packcast.host";
  struct Request {
    std::string actor_class;
    std::string name;
    Value arguments;  // an array
    int32_t max_restarts = 0;

    template <class V>
    void Fields(V& v) {
      v("class", actor_class);
      v("name", name);
      v("arguments", arguments);
      v("max_restarts", max_restarts);
    }
  };

  explicit Host(const ActorClasses* classes) : classes_(classes) {}
  static void Methods(MethodTable<Host>& table) {
    table.Add("spawn", &Host::Spawn, {.about = "spawns an actor of a class of this program"});
  }
  Status Spawn(Context& context, const Request& request);

 private:
  const ActorClasses* classes_;
};

}  // namespace packcast::internal
