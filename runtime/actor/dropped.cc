#include "runtime/actor/dropped.h"

#include <utility>

namespace packcast::internal {
namespace {

thread_local const EndingScope* current = nullptr;

}  // namespace

EndingScope::EndingScope(Status status) : status_(std::move(status)), outer_(current) {
  current = this;
}
EndingScope::~EndingScope() { current = outer_; }

Status Dropped(const std::string& otherwise) {
  return current == nullptr ? Internal(otherwise) : current->status_;
}

}  // namespace packcast::internal
