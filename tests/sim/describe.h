#pragma once

#include <string>
#include <string_view>

#include "actors/coordinator_machine.h"
#include "actors/trainer_machine.h"
#include "protocol/messages.h"

// Events, effects and messages as a name, a number for the trace's hash and a text for people.
namespace packcast::sim {

std::string KeyText(const EpochKey& key);

template <class T>
concept HasKey = requires(const T& t) {
  { t.key } -> std::convertible_to<const EpochKey&>;
};
template <class T>
concept HasLabel = requires(const T& t) {
  { t.label } -> std::convertible_to<uint64_t>;
};

// The key of a variant's alternative, if it has one.
template <class Variant>
const EpochKey* KeyOf(const Variant& variant) {
  return std::visit(
      [](const auto& v) -> const EpochKey* {
        if constexpr (HasKey<std::decay_t<decltype(v)>>) {
          return &v.key;
        } else {
          return nullptr;
        }
      },
      variant);
}

template <class Variant>
uint64_t NumberOf(const Variant& variant) {
  const EpochKey* key = KeyOf(variant);
  const uint64_t about = key == nullptr ? 0 : (key->epoch.value << 16) + (key->attempt.value << 8);
  return about + variant.index();
}

std::string Describe(const MemberMessage& message);
std::string Describe(const CoordinatorMessage& message);
std::string_view NameOf(const MemberEvent& event);
std::string Describe(const MemberEvent& event);
std::string_view NameOf(const MemberEffect& effect);
std::string Describe(const MemberEffect& effect);

}  // namespace packcast::sim
