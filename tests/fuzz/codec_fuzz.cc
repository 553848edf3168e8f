// Any bytes as a msgpack value, and as one that refers to byte ranges: what decodes is within the
// bounds, can be sent, and comes back as the same bytes.
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/base/check.h"

using namespace packcast;

namespace {

// The last byte says how many ranges come with it.
void CheckApart(std::string_view bytes) {
  if (bytes.empty()) return;
  static const ByteRange kLong = Bytes(limits::kApartBytes, std::byte{7});
  const auto count = static_cast<unsigned char>(bytes.back()) % (limits::kApartRanges + 2);
  const ApartRanges apart(count, kLong);
  const StatusOr<Value> value = DecodeApart(bytes.substr(0, bytes.size() - 1), apart);
  if (!value.ok()) return;
  PC_CHECK(CheckEncodableApart(*value).ok() == (count <= limits::kApartRanges));
  ApartRanges again;
  const std::string encoded = Encode(*value, &again);
  PC_CHECK(again.size() == count) << again.size() << " of " << count;
  const StatusOr<Value> back = DecodeApart(encoded, again);
  PC_CHECK(back.ok()) << back.status();
  ApartRanges last;
  PC_CHECK(Encode(*back, &last) == encoded && last.size() == count);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  CheckApart(bytes);
  constexpr DecodeLimits kTight = {
      .depth = 4, .items = 16, .total_items = 64, .string_bytes = 32, .bytes_bytes = 32};
  const StatusOr<Value> value = Decode(bytes);
  const StatusOr<Value> tight = Decode(bytes, kTight);
  PC_CHECK(value.ok() || !tight.ok()) << "narrower bounds let more in";
  if (!value.ok()) {
    PC_CHECK(!value.status().message().empty());
    return 0;
  }
  const Status fits = CheckEncodable(*value);
  PC_CHECK(fits.ok()) << fits;
  PC_CHECK(tight.ok() == CheckEncodable(*value, kTight).ok()) << tight.status();
  const std::string encoded = Encode(*value);
  const StatusOr<Value> again = Decode(encoded);
  PC_CHECK(again.ok()) << again.status();
  PC_CHECK(Encode(*again) == encoded);
  PC_CHECK(value->ToString(100).size() <= 103);
  return 0;
}
