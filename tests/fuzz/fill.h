#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "protocol/fields.h"
#include "protocol/message_parts.h"
#include "protocol/text.h"
#include "tests/fuzz/input.h"

namespace packcast::fuzz {

// What a field is likely to hold to be taken seriously. Empty ones are never taken from.
struct Pools {
  std::vector<std::string> texts;
  std::vector<Digest> digests;
  std::vector<EpochKey> keys;  // the present one first: it is taken more often
};

// The longest text that a Filler makes. Machines must not make a longer one of it, as on the wire
// what is as long as a string may be (limits::kStringBytes) must not get longer.
inline constexpr size_t kTextBytes = size_t{64} << 10;

// Fills messages with what an input says: plausible values from pools, bounds, and nonsense. All
// that it makes can come over the wire: decoding would give it. A visitor of Fields().
class Filler {
 public:
  Filler(Input* in, const Pools* pools) : in_(*in), pools_(*pools) {}

  template <class T>
  T Make() {
    T value{};
    Fill(value);
    return value;
  }
  template <class T>
  void operator()(std::string_view, T& field) {
    Fill(field);
  }

  template <class T>
  void Fill(T& value) {
    if constexpr (std::same_as<T, bool>) {
      value = in_.Flag();
    } else if constexpr (std::integral<T>) {
      value = static_cast<T>(Number());
    } else if constexpr (fields::BoundedEnum<T>) {
      value = static_cast<T>(in_.Below(EnumBound(T{})));
    } else if constexpr (fields::HasFields<T>) {
      value.Fields(*this);
    } else {
      Put(value);
    }
  }

  uint64_t Number();
  std::string Text();
  Value AnyValue(int depth = 0);
  Status AnyStatus();

 private:
  template <class T>
  void Put(std::vector<T>& list) {
    // Seldom more than any list that is looked at may have.
    const size_t size = in_.OneIn(64) ? 70 : in_.Below(4);
    list.clear();
    for (size_t k = 0; k < size; ++k) list.push_back(Make<T>());
  }
  template <class T>
  void Put(std::optional<T>& value) {
    if (in_.Flag()) value = Make<T>();
  }
  template <class Tag>
  void Put(StrongId<Tag>& id) {
    id.value = Number();
  }
  void Put(double& value);
  void Put(std::string& text) { text = Text(); }
  void Put(Bytes& bytes);
  void Put(Value& value) { value = AnyValue(); }
  void Put(Digest& digest);
  void Put(Duration& duration);
  void Put(Term& term);
  void Put(Version& version);
  void Put(EpochKey& key);

  Input& in_;
  const Pools& pools_;
  int long_texts_ = 2;  // how many more this input may have: they cost time
};

}  // namespace packcast::fuzz
