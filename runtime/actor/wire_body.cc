#include "runtime/actor/wire_body.h"

#include <memory>
#include <utility>

#include "protocol/limits.h"

namespace packcast::internal {
namespace {

Status CheckWhole(size_t bytes) {
  if (bytes <= limits::kControlFrameBytes) return OkStatus();
  return InvalidArgument("a body of " + std::to_string(bytes) + " bytes exceeds the limit of " +
                         std::to_string(limits::kControlFrameBytes) + " bytes")
      .WithOutcome(Outcome::kNotExecuted);
}

}  // namespace

size_t WireBody::range_bytes() const {
  size_t bytes = 0;
  for (const ByteRange& range : ranges) bytes += range.size();
  return bytes;
}

WireBody WireBody::Share() const { return {value.Share(), ranges}; }

StatusOr<std::string> EncodeWhole(const Value& body) {
  if (body.is_nil()) return std::string();
  const Status fits = CheckEncodable(body);
  if (!fits.ok()) return fits.WithOutcome(Outcome::kNotExecuted);
  std::string bytes = Encode(body);
  PC_RETURN_IF_ERROR(CheckWhole(bytes.size()));
  return bytes;
}

StatusOr<WireBody> EncodeBody(const Value& body, bool apart) {
  WireBody out;
  if (!apart) {
    PC_ASSIGN_OR_RETURN(std::string whole, EncodeWhole(body));
    out.value = net::Frame::Own(std::move(whole));
    return out;
  }
  if (body.is_nil()) return out;
  const Status fits = CheckEncodableApart(body);
  if (!fits.ok()) return fits.WithOutcome(Outcome::kNotExecuted);
  std::string bytes = EncodeApart(body, &out.ranges);
  PC_RETURN_IF_ERROR(CheckWhole(bytes.size()));
  out.value = net::Frame::Own(std::move(bytes));
  return out;
}

StatusOr<WireBody> TakeBody(std::span<net::Frame> frames) {
  WireBody body;
  if (frames.empty()) return body;
  body.value = std::move(frames[0]);
  for (net::Frame& frame : frames.subspan(1)) {
    const auto held = std::make_shared<const net::Frame>(std::move(frame));
    body.ranges.emplace_back(held->bytes(), held);
  }
  const size_t count = body.ranges.size();
  const size_t bytes = body.range_bytes();
  if (count <= limits::kApartRanges && bytes <= limits::kApartTotalBytes) return body;
  return InvalidArgument("a message with " + std::to_string(count) + " byte ranges of " +
                         std::to_string(bytes) + " bytes together");
}

StatusOr<Value> DecodeBody(WireBody body) {
  if (body.value.size() == 0 && body.ranges.empty()) return Value();
  return DecodeApart(body.value.view(), std::move(body.ranges));
}

}  // namespace packcast::internal
