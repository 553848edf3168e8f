#include "tests/fuzz/fill.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "protocol/limits.h"

namespace packcast::fuzz {

uint64_t Filler::Number() {
  static constexpr uint64_t kBounds[] = {
      4,          7,          8,          63,         64,
      65,         255,        256,        257,        4095,
      4096,       8192,       8193,       65535,      1 << 20,
      1'000'000,  1 << 26,    1u << 30,   0x7fffffff, 0x80000000,
      0xffffffff, 1ull << 32, 1ull << 36, 1ull << 50, limits::kTermCounter - 1,
      1ull << 62, 1ull << 63, ~0ull - 1,  ~0ull};
  constexpr size_t kBoundCount = sizeof kBounds / sizeof kBounds[0];
  const uint8_t byte = in_.Byte();
  if (byte < 192) return byte % 4;
  if (byte < 192 + kBoundCount) return kBounds[byte - 192];
  return in_.Word();
}

std::string Filler::Text() {
  const uint8_t byte = in_.Byte();
  if (byte < 224 && !pools_.texts.empty()) return pools_.texts[byte % pools_.texts.size()];
  if (byte < 250 || long_texts_ == 0) return WireText(in_.Take(in_.Below(16)));
  if (byte < 253) return std::string(limits::kNameBytes + byte - 251, 'n');
  --long_texts_;
  return std::string(byte == 255 ? kTextBytes : limits::kStatusTextBytes + byte - 253, 't');
}

Value Filler::AnyValue(int depth) {
  switch (in_.Below(depth < 3 ? 9 : 7)) {
    case 0: return Value();
    case 1: return in_.Flag();
    case 2: return Number();
    case 3: return static_cast<int64_t>(Number());
    case 4: return Make<double>();
    case 5: return Text();
    case 6: return Make<Bytes>();
    case 7: {
      ValueArray array(in_.Below(4));
      for (Value& item : array) item = AnyValue(depth + 1);
      return array;
    }
    default: {
      ValueMap map;
      for (size_t k = in_.Below(4); k > 0; --k) {
        const std::string key = Text();
        // No key comes twice over the wire.
        const bool known = std::any_of(map.begin(), map.end(),
                                       [&](const auto& entry) { return entry.first == key; });
        if (!known) map.emplace_back(key, AnyValue(depth + 1));
      }
      return map;
    }
  }
}

Status Filler::AnyStatus() { return Make<WireStatus>().ToStatus(); }

void Filler::Put(double& value) {
  static constexpr double kValues[] = {0,
                                       0.5,
                                       -1,
                                       1e300,
                                       std::numeric_limits<double>::infinity(),
                                       std::numeric_limits<double>::quiet_NaN()};
  value = kValues[in_.Below(sizeof kValues / sizeof kValues[0])];
}

void Filler::Put(Bytes& bytes) {
  const std::string_view taken = in_.Take(in_.Below(20));
  bytes.resize(taken.size());
  if (!taken.empty()) std::memcpy(bytes.data(), taken.data(), taken.size());
}

void Filler::Put(Digest& digest) {
  const uint8_t byte = in_.Byte();
  if (byte < 240 && !pools_.digests.empty()) {
    digest = pools_.digests[byte % pools_.digests.size()];
  } else {
    digest = Digest{Number(), Number()};
  }
}

void Filler::Put(Duration& duration) {
  constexpr uint64_t kMillisecondsMax = uint64_t{366} * 24 * 3600 * 1000;  // of fields.cc
  duration = Milliseconds(static_cast<int64_t>(std::min(Number(), kMillisecondsMax)));
}

void Filler::Put(Term& term) {
  if (in_.Flag() && !pools_.keys.empty()) {
    term = pools_.keys[in_.Below(pools_.keys.size())].term;
  } else {
    term = Term{std::min(Number(), limits::kTermCounter), Number()};
  }
}

void Filler::Put(Version& version) {
  if (in_.Flag() && !pools_.keys.empty()) {
    version = pools_.keys[in_.Below(pools_.keys.size())].version();
  } else {
    version = Version{Make<Term>(), EpochId(Number())};
  }
}

// Its counter is not bounded on the wire: only one that is known already counts.
void Filler::Put(EpochKey& key) {
  const uint8_t byte = in_.Byte();
  if (byte < 192 && !pools_.keys.empty()) {
    key = pools_.keys[byte < 96 ? 0 : byte % pools_.keys.size()];
    return;
  }
  key = EpochKey{Text(), {Number(), Number()}, EpochId(Number()), Attempt(Number())};
}

}  // namespace packcast::fuzz
