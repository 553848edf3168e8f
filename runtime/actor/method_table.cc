#include "runtime/actor/method_table.h"

namespace packcast::internal {

Status CheckArgumentCount(std::string_view method, size_t expected, const Value& body) {
  // A script that has no arguments to send may leave the body out.
  if (expected == 0 && body.is_nil()) return OkStatus();
  const ValueArray* array = body.AsArray();
  if (array == nullptr) {
    return InvalidArgument("method \"" + std::string(method) +
                           "\": the body must be an array of its " + std::to_string(expected) +
                           " arguments, got " + std::string(body.KindName()));
  }
  if (array->size() == expected) return OkStatus();
  return InvalidArgument("method \"" + std::string(method) + "\" takes " +
                         std::to_string(expected) + (expected == 1 ? " argument" : " arguments") +
                         ", got " + std::to_string(array->size()));
}

Status ArgumentError(std::string_view method, size_t index, const Status& error) {
  return error.WithContext("method \"" + std::string(method) + "\", argument " +
                           std::to_string(index));
}

Status ThrownError(std::string_view method, std::string_view what) {
  return Internal("method \"" + std::string(method) + "\" threw: " + std::string(what))
      .WithOutcome(Outcome::kExecuted);
}

}  // namespace packcast::internal
