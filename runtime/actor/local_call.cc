#include "runtime/actor/local_call.h"

#include <utility>

#include "runtime/actor/node.h"

namespace packcast::internal {

bool LocalCall::Begin() const { return node_ != nullptr && node_->calls().MarkSent(id_); }

bool LocalCall::Take() const {
  if (node_ == nullptr) return false;
  auto call = node_->calls().Take(id_, nullptr);
  if (!call) return false;
  CallTable::FreeWindow(*call);
  return true;
}

void LocalCall::Cancel() const {
  if (node_ != nullptr) node_->CancelCall(id_, nullptr);
}

const void* LocalType(const ActorRef& ref) {
  if (!ref.valid() || !ref.local()) return nullptr;
  const MethodCatalog* catalog = ref.state()->cell->catalog();
  return catalog == nullptr ? nullptr : catalog->type;
}

CallbackRunner CallbacksOf(const ActorRef& ref) { return ref.state()->owner->Runner(); }

StatusOr<LocalCall> BeginLocalCall(const ActorRef& ref, const std::string& method,
                                   const CallOptions& options,
                                   std::function<void(const Status&)> fail) {
  const RefState& to = *ref.state();
  PendingCall call;
  call.fail = std::move(fail);
  call.what = to.node + ":" + to.actor + "." + method;
  PC_RETURN_IF_ERROR(Node::SetDeadline(options, &call));
  PC_ASSIGN_OR_RETURN(const CallId id, to.owner->BeginCall(to, std::move(call)));
  return LocalCall(to.owner, id);
}

Status PushLocal(const ActorRef& ref, Task task, const std::string& method, bool control) {
  Cell& cell = *ref.state()->cell;
  if (Cell* sender = Cell::Current()) task.set_sender(sender->shared_from_this());
  return cell.Push(std::move(task), control ? Cell::kControl : cell.GroupOf(method));
}

}  // namespace packcast::internal
