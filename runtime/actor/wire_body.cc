#include "runtime/actor/wire_body.h"

#include <memory>
#include <utility>

#include "protocol/limits.h"

namespace packcast::internal {
namespace {

// `apart` is null for whoever takes none.
StatusOr<std::string> EncodeChecked(const Value& body, ApartRanges* apart) {
  if (body.is_nil()) return std::string();
  const Status fits = apart == nullptr ? CheckEncodable(body) : CheckEncodableApart(body);
  if (!fits.ok()) return fits.WithOutcome(Outcome::kNotExecuted);
  std::string bytes = Encode(body, apart);
  if (bytes.size() <= limits::kControlFrameBytes) return bytes;
  return InvalidArgument("a body of " + std::to_string(bytes.size()) + " bytes exceeds the limit " +
                         "of " + std::to_string(limits::kControlFrameBytes) + " bytes")
      .WithOutcome(Outcome::kNotExecuted);
}

}  // namespace

WireBody WireBody::Copy() const {
  WireBody copy{net::Frame(value.view())};
  if (apart == nullptr) return copy;
  ApartRanges copies;
  for (const ByteRange& range : *apart) copies.emplace_back(range.Copy());
  copy.apart = std::make_shared<const ApartRanges>(std::move(copies));
  return copy;
}

StatusOr<std::string> EncodeWhole(const Value& body) { return EncodeChecked(body, nullptr); }

Status EncodeBody(const Value& body, bool takes_ranges, WireBody* out) {
  ApartRanges apart;
  PC_ASSIGN_OR_RETURN(std::string bytes, EncodeChecked(body, takes_ranges ? &apart : nullptr));
  out->value = net::Frame::Own(std::move(bytes));
  if (!apart.empty()) out->apart = std::make_shared<const ApartRanges>(std::move(apart));
  return OkStatus();
}

StatusOr<WireBody> TakeBody(std::span<net::Frame> frames) {
  WireBody body;
  if (frames.empty()) return body;
  body.value = std::move(frames[0]);
  const size_t count = frames.size() - 1;
  if (count == 0) return body;
  ApartRanges apart;
  for (net::Frame& frame : frames.subspan(1)) {
    const auto held = std::make_shared<const net::Frame>(std::move(frame));
    apart.emplace_back(held->bytes(), held);
  }
  body.apart = std::make_shared<const ApartRanges>(std::move(apart));
  const size_t bytes = body.range_bytes();
  if (count <= limits::kApartRanges && bytes <= limits::kApartTotalBytes) return body;
  return InvalidArgument("a message with " + std::to_string(count) + " byte ranges of " +
                         std::to_string(bytes) + " bytes together");
}

StatusOr<Value> DecodeBody(const WireBody& body) {
  if (body.apart != nullptr) return DecodeApart(body.value.view(), *body.apart);
  return body.value.size() == 0 ? StatusOr<Value>(Value()) : Decode(body.value.view());
}

}  // namespace packcast::internal
