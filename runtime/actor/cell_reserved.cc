// What every actor answers apart from its own methods, and without taking up its turn: so that a
// stuck one can still be asked, and killed. docs/protocol.md, "Reserved methods".
#include <algorithm>
#include <cstddef>
#include <utility>

#include "protocol/codec.h"
#include "protocol/fields.h"
#include "runtime/actor/cell.h"
#include "runtime/actor/node.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

Value DescribeMethods(const MethodCatalog* catalog) {
  ValueArray methods;
  if (catalog == nullptr) return methods;
  for (const MethodCatalog::Method& method : catalog->methods) {
    methods.push_back(ValueMap{{"name", method.name},
                               {"group", method.group},
                               {"about", method.about},
                               {"arguments", ToValue(method.arguments)},
                               {"result", method.result}});
  }
  return methods;
}

// Actors of one process that may be linked with one here by their own wish.
constexpr std::ptrdiff_t kLinksOfPeer = 1024;

// Whether `from`, of another process, may be linked with as well.
bool HasRoom(const std::vector<ActorRef>& links, const ActorRef& from) {
  if (from.state()->link == nullptr || std::find(links.begin(), links.end(), from) != links.end()) {
    return true;
  }
  const auto of_peer = std::count_if(links.begin(), links.end(), [&](const ActorRef& ref) {
    const auto& link = ref.state()->link;
    return link != nullptr && link->room == from.state()->link->room;
  });
  return of_peer < kLinksOfPeer;
}

}  // namespace

std::string Cell::StateName() const {
  std::lock_guard lock(mutex_);
  return StateNameLocked();
}

std::string Cell::StateNameLocked() const {
  switch (phase_) {
    case Phase::kRunning: return is_starting_ ? "starting" : "running";
    case Phase::kBackoff: return "restarting";
    case Phase::kStopping: return "stopping";
    case Phase::kEnding: return "failing";
    case Phase::kStopped: return "stopped";
  }
  return "unknown";
}

Value Cell::Describe() const {
  ValueMap labels;
  for (const auto& [key, value] : options_.labels) labels.emplace_back(key, value);
  ValueMap queued;
  std::string state;
  {
    std::lock_guard lock(mutex_);
    for (size_t k = 0; k < groups_.size(); ++k) {
      const std::string group = k == kDefault   ? "default"
                                : k == kControl ? "control"
                                                : options_.groups[k - 2].name;
      queued.emplace_back(group, static_cast<uint64_t>(groups_[k].queue.size()));
    }
    state = StateNameLocked();
  }
  return ValueMap{{"name", name_},
                  {"incarnation", incarnation_.load()},
                  {"life", static_cast<uint64_t>(life_.load())},
                  {"state", state},
                  {"queued", queued},
                  {"progress", progress()},
                  {"labels", labels},
                  {"methods", DescribeMethods(catalog_)}};
}

Value Cell::Fate() const {
  std::lock_guard lock(mutex_);
  ValueMap fate{{"state", StateNameLocked()}};
  // Of a life that has not begun the peers are not told yet: its announcement will be news.
  if (phase_ == Phase::kRunning && !is_starting_) {
    fate.emplace_back("incarnation", incarnation_.load());
  }
  return fate;
}

Status Cell::OnReserved(Mail mail) {
  Message& message = mail.message;
  if (mail.raw_body) {
    StatusOr<Value> body = DecodeBody(*mail.raw_body);
    if (!body.ok()) return Refuse(&message, body.status());
    message.body = std::move(*body);
  }
  if (message.method == "$describe") {
    message.responder.Reply(Describe());
  } else if (message.method == "$fate") {  // one that is gone is spoken for by its node
    message.responder.Reply(Fate());
  } else if (message.method == "$kill") {
    bool restart = false;
    const Value* wish = message.body.Find("restart");
    const bool* given = wish == nullptr ? nullptr : wish->AsBool();
    if (wish != nullptr && given == nullptr) {
      return Refuse(&message, InvalidArgument("$kill: \"restart\" is not a boolean"));
    }
    if (given != nullptr) restart = *given;
    const std::string who = message.from.valid() ? message.from.ToString() : node_->options().name;
    EndLife(PeerDied("killed by " + who), restart);
    message.responder.Reply(Value());
  } else if (message.method == "$link" || message.method == "$unlink") {
    if (!message.from.valid() || message.from.actor().empty()) {
      return Refuse(&message, InvalidArgument("only an actor can be linked with"));
    }
    const bool on = message.method == "$link";
    bool has_room = true;
    {
      std::lock_guard lock(mutex_);
      has_room = HasRoom(links_, message.from);
    }
    if (on && !has_room) {
      return Refuse(&message, ResourceExhausted(std::to_string(kLinksOfPeer) + " actors of node " +
                                                message.from.node() + " are linked with \"" +
                                                name_ + "\" already"));
    }
    on ? AddLink(message.from) : RemoveLink(message.from);
    message.responder.Reply(Value());
  } else {
    return Refuse(&message, Unimplemented("no reserved method \"" + message.method + "\""));
  }
  return OkStatus();
}

Status Cell::Refuse(Message* message, const Status& why) {
  const Status status = why.WithOutcome(Outcome::kNotExecuted);
  message->responder.Fail(status);
  return status;
}

}  // namespace packcast::internal
