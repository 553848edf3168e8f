#include "runtime/actor/encode_body.h"

#include "protocol/codec.h"
#include "protocol/limits.h"

namespace packcast::internal {

StatusOr<std::string> EncodeBody(const Value& body) {
  if (body.is_nil()) return std::string();
  const Status fits = CheckEncodable(body);
  if (!fits.ok()) return fits.WithOutcome(Outcome::kNotExecuted);
  std::string bytes = Encode(body);
  if (bytes.size() <= limits::kControlFrameBytes) return bytes;
  return InvalidArgument("a body of " + std::to_string(bytes.size()) + " bytes exceeds the limit " +
                         "of " + std::to_string(limits::kControlFrameBytes) + " bytes")
      .WithOutcome(Outcome::kNotExecuted);
}

}  // namespace packcast::internal
