#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "protocol/limits.h"
#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast {

// Bounds for one decoding; the defaults are those of the control lane.
struct DecodeLimits {
  size_t depth = limits::kValueDepth;
  size_t items = limits::kValueItems;         // of one array or map
  size_t total_items = limits::kDecodeItems;  // of all arrays and maps together
  size_t string_bytes = limits::kStringBytes;
  size_t bytes_bytes = limits::kBytesBytes;
};

// The bytes that travel apart from the msgpack value that refers to them, in their order there: an
// ext value of kRangeExt stands for each, and holds its index as one byte.
using ApartRanges = std::vector<ByteRange>;
inline constexpr int kRangeExt = 1;

// msgpack bytes of `value`; deterministic: equal values give equal bytes. With `apart`, which is
// empty, long byte ranges are not copied but put there, as many as limits::kApartRanges and
// kApartTotalBytes let.
std::string Encode(const Value& value, ApartRanges* apart = nullptr);

// Whether Decode will take the encoding of `value`, but for keys that come twice. Errors:
// kInvalidArgument.
Status CheckEncodable(const Value& value, const DecodeLimits& limits = {});
// The same of the encoding that sets byte ranges apart.
Status CheckEncodableApart(const Value& value, const DecodeLimits& limits = {});

// The one value that `bytes` holds. Errors: kInvalidArgument when it is not exactly one
// well-formed msgpack value, exceeds a limit, has a map key that is not a string or comes twice,
// a string that is not UTF-8, or an ext type. Allocates for no more items than the input has bytes,
// nor than total_items; an item costs at most some 150 bytes on top of its text. Thread-safe.
StatusOr<Value> Decode(std::span<const std::byte> bytes, const DecodeLimits& limits = {});
StatusOr<Value> Decode(std::string_view bytes, const DecodeLimits& limits = {});
// The same for one that refers to `apart`: to each of them once, in their order.
StatusOr<Value> DecodeApart(std::string_view bytes, ApartRanges apart,
                            const DecodeLimits& limits = {});

}  // namespace packcast
