#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "protocol/fields.h"
#include "protocol/status.h"
#include "runtime/actor/method_table.h"

// Which arguments a typed call takes: those that a direct call of the method would, but for what
// C++ changes without a word. By its name on the wire a method refuses the same.
namespace packcast::internal {

// The T of an optional one.
template <class T>
struct HeldBy {
  using Type = T;
  static constexpr bool is_optional = false;
};
template <class T>
struct HeldBy<std::optional<T>> {
  using Type = T;
  static constexpr bool is_optional = true;
};

template <class T>
concept Integer = std::integral<T> && !std::same_as<T, bool>;

// Whether a From becomes a To: implicitly, and all text a string, also one that may be missing.
template <class From, class To>
concept Becomes = std::is_convertible_v<From, To> ||
    (std::same_as<typename HeldBy<To>::Type, std::string>&&
         std::is_convertible_v<From, std::string_view>);

// A pointer, or a text, would be true; a number would lose its fraction.
template <class From, class To>
constexpr bool LosesItsMeaning() {
  using Source = typename HeldBy<std::decay_t<From>>::Type;
  using Target = typename HeldBy<To>::Type;
  constexpr bool kIsPointer = std::is_pointer_v<Source> || std::is_member_pointer_v<Source>;
  if (std::same_as<Target, bool>) return kIsPointer || std::floating_point<Source>;
  return Integer<Target> && std::floating_point<Source>;
}

template <Integer T>
constexpr auto Widest(T number) {
  if constexpr (std::signed_integral<T>) {
    return int64_t{number};
  } else {
    return uint64_t{number};
  }
}

// The integer that an argument is; none for what is another thing, or an empty optional.
template <class From>
constexpr auto IntegerOf([[maybe_unused]] const From& from) {
  if constexpr (HeldBy<From>::is_optional) {
    return from ? IntegerOf(*from) : decltype(IntegerOf(*from))();
  } else if constexpr (std::is_enum_v<From>) {
    return IntegerOf(static_cast<std::underlying_type_t<From>>(from));
  } else if constexpr (Integer<From>) {
    return std::optional(Widest(from));
  } else {
    return std::optional<int64_t>();
  }
}

// Whether a To can hold it. Costs nothing where every From fits.
template <class To, class From>
constexpr bool Fits([[maybe_unused]] const From& from) {
  using Target = typename HeldBy<To>::Type;
  if constexpr (Integer<Target>) {
    using Limits = std::numeric_limits<Target>;
    const auto number = IntegerOf(from);
    return !number || (std::cmp_greater_equal(*number, Widest(Limits::min())) &&
                       std::cmp_less_equal(*number, Widest(Limits::max())));
  } else {
    return true;
  }
}

// kInvalidArgument: it names what does not fit.
template <class To, class From>
Status CheckFits(const From& from) {
  using Target = typename HeldBy<To>::Type;
  if constexpr (Integer<Target>) {
    if (Fits<To>(from)) return OkStatus();
    const std::string expected = fields::IntegerName(std::signed_integral<Target>, sizeof(Target));
    return fields::WrongKind(expected, Value(*IntegerOf(from)));
  } else {
    return OkStatus();
  }
}

template <class Tuple, class... Args, size_t... kIndex>
constexpr bool AllFit(std::index_sequence<kIndex...>, const Args&... args) {
  return (Fits<std::tuple_element_t<kIndex, Tuple>>(args) && ...);
}

template <class Tuple, class... Args, size_t... kIndex>
Status CheckAllFit(std::string_view method, std::index_sequence<kIndex...>, const Args&... args) {
  Status status;
  [[maybe_unused]] const auto note = [&](size_t index, const Status& fits) {
    if (!fits.ok() && status.ok()) status = ArgumentError(method, index, fits);
  };
  (note(kIndex, CheckFits<std::tuple_element_t<kIndex, Tuple>>(args)), ...);
  return status.WithOutcome(Outcome::kNotExecuted);
}

// Says in the compiler's words what is wrong with the types; true: nothing.
template <class Tuple, class... Args, size_t... kIndex>
constexpr bool AreArguments(std::index_sequence<kIndex...>) {
  constexpr bool kBecome = (Becomes<Args, std::tuple_element_t<kIndex, Tuple>> && ...);
  static_assert(kBecome, "an argument is of another type than this method takes");
  constexpr bool kLose = (LosesItsMeaning<Args, std::tuple_element_t<kIndex, Tuple>>() || ...);
  static_assert(!kBecome || !kLose,
                "a pointer or text becomes no bool here, and a floating point number neither that "
                "nor an integer: convert it yourself");
  return kBecome && !kLose;
}

}  // namespace packcast::internal
