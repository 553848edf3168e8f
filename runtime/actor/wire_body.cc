#include "runtime/actor/wire_body.h"

#include <utility>

#include "protocol/codec.h"
#include "protocol/limits.h"

namespace packcast::internal {
namespace {

// Gives back what was lent when the last frame of it is gone.
class Loan {
 public:
  Loan(std::shared_ptr<LentBytes> lent, ByteRange range)
      : lent_(std::move(lent)), range_(std::move(range)) {}
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  ~Loan() { lent_->fetch_sub(range_.size()); }

 private:
  const std::shared_ptr<LentBytes> lent_;
  const ByteRange range_;
};

net::Frame LendFrame(const std::shared_ptr<LentBytes>& lent, const ByteRange& range) {
  return net::Frame::Borrow(range.bytes(), [loan = std::make_shared<Loan>(lent, range)] {});
}

Status CheckWhole(size_t bytes) {
  if (bytes <= limits::kControlFrameBytes) return OkStatus();
  return InvalidArgument("a body of " + std::to_string(bytes) + " bytes exceeds the limit of " +
                         std::to_string(limits::kControlFrameBytes) + " bytes")
      .WithOutcome(Outcome::kNotExecuted);
}

Status TakeLoan(const ApartRanges& apart, LentBytes* lent) {
  size_t bytes = 0;
  for (const ByteRange& range : apart) bytes += range.size();
  if (lent->fetch_add(bytes) + bytes <= limits::kQueuedBytes) return OkStatus();
  lent->fetch_sub(bytes);
  return ResourceExhausted(std::to_string(limits::kQueuedBytes >> 20) +
                           " MiB of byte ranges are on their way to the same process already")
      .WithOutcome(Outcome::kNotExecuted);
}

}  // namespace

size_t WireBody::size() const {
  size_t bytes = value.size();
  for (const net::Frame& range : ranges) bytes += range.size();
  return bytes;
}

WireBody WireBody::Share() const {
  WireBody copy;
  copy.value = value.Share();
  for (const net::Frame& range : ranges) copy.ranges.push_back(range.Share());
  return copy;
}

StatusOr<std::string> EncodeWhole(const Value& body) {
  if (body.is_nil()) return std::string();
  const Status fits = CheckEncodable(body);
  if (!fits.ok()) return fits.WithOutcome(Outcome::kNotExecuted);
  std::string bytes = Encode(body);
  PC_RETURN_IF_ERROR(CheckWhole(bytes.size()));
  return bytes;
}

StatusOr<WireBody> EncodeBody(const Value& body, const std::shared_ptr<LentBytes>& lent) {
  WireBody out;
  if (lent == nullptr) {
    PC_ASSIGN_OR_RETURN(std::string whole, EncodeWhole(body));
    out.value = net::Frame::Own(std::move(whole));
    return out;
  }
  if (body.is_nil()) return out;
  const Status fits = CheckEncodableApart(body);
  if (!fits.ok()) return fits.WithOutcome(Outcome::kNotExecuted);
  ApartRanges apart;
  std::string bytes = EncodeApart(body, &apart);
  PC_RETURN_IF_ERROR(CheckWhole(bytes.size()));
  out.value = net::Frame::Own(std::move(bytes));
  if (apart.empty()) return out;
  PC_RETURN_IF_ERROR(TakeLoan(apart, lent.get()));
  for (const ByteRange& range : apart) out.ranges.push_back(LendFrame(lent, range));
  return out;
}

StatusOr<Value> DecodeBody(WireBody body) {
  ApartRanges apart;
  for (net::Frame& frame : body.ranges) {
    const auto held = std::make_shared<const net::Frame>(std::move(frame));
    apart.emplace_back(held->bytes(), held);
  }
  if (body.value.size() == 0 && apart.empty()) return Value();
  return DecodeApart(body.value.view(), std::move(apart));
}

}  // namespace packcast::internal
