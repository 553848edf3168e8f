#include "runtime/actor/shared_body.h"

#include "runtime/actor/wire_body.h"

namespace packcast {

StatusOr<SharedBody> SharedBody::Make(const Value& body) {
  PC_ASSIGN_OR_RETURN(std::string bytes, internal::EncodeWhole(body));
  return SharedBody(std::make_shared<const std::string>(std::move(bytes)));
}

}  // namespace packcast
