#include "tests/sim/describe.h"

#include <array>

namespace packcast::sim {
namespace {

template <class Variant>
std::string About(const Variant& variant) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        std::string out;
        if constexpr (HasKey<T>) out = KeyText(v.key);
        if constexpr (HasLabel<T>) out += " label " + std::to_string(v.label);
        if constexpr (requires { v.generation.value; }) {
          out += " gen " + std::to_string(v.generation.value);
        }
        if constexpr (requires { v.status.ToString(); }) out += " " + v.status.ToString();
        if constexpr (requires { v.status.ToStatus(); }) {
          out += " " + v.status.ToStatus().ToString();
        }
        if constexpr (requires { v.reason.ToStatus(); }) {
          out += " " + v.reason.ToStatus().ToString();
        }
        return out;
      },
      variant);
}

}  // namespace

std::string KeyText(const EpochKey& key) {
  return ToString(key.version()) + "/" + std::to_string(key.attempt.value);
}

std::string Describe(const MemberMessage& message) {
  std::string out = std::string(MessageName(message)) + " " + About(message);
  if (const auto* join = std::get_if<JoinCluster>(&message)) {
    out += "serving " + ToString(join->serving) + " promised " +
           std::to_string(join->promised.counter) + (join->dirty ? " dirty" : "");
  }
  return out;
}

std::string Describe(const CoordinatorMessage& message) {
  std::string out = std::string(MessageName(message)) + " " + About(message);
  if (const auto* prepare = std::get_if<Prepare>(&message)) {
    for (const FlowGeneration& generation : prepare->generations) {
      out += " gen " + std::to_string(generation.id.value) + (generation.reuse ? " reused" : "");
    }
    out += prepare->contract ? " contract" : " digest";
  }
  if (const auto* welcome = std::get_if<Welcome>(&message)) {
    out += "term " + std::to_string(welcome->term.counter);
  }
  return out;
}

std::string_view NameOf(const MemberEvent& event) {
  constexpr std::array<std::string_view, std::variant_size_v<MemberEvent>> kNames{
      "coordinator-up",   "coordinator-lost", "message",      "prepare-done",
      "generation-ready", "quiesce-done",     "stream-done",  "install-done",
      "halt-done",        "abort-done",       "offer-changed"};
  return kNames[event.index()];
}

std::string Describe(const MemberEvent& event) {
  if (const auto* message = std::get_if<CoordinatorMessage>(&event)) return Describe(*message);
  return About(event);
}

std::string_view NameOf(const MemberEffect& effect) {
  constexpr std::array<std::string_view, std::variant_size_v<MemberEffect>> kNames{
      "  send",    "  prepare",     "  join",          "  quiesce", "  stream",
      "  install", "  resume",      "  halt",          "  abort",   "  source-free",
      "  close",   "  sync-wanted", "  sync-finished", "  stop"};
  return kNames[effect.index()];
}

std::string Describe(const MemberEffect& effect) {
  if (const auto* send = std::get_if<SendToCoordinator>(&effect)) return Describe(send->message);
  return About(effect);
}

}  // namespace packcast::sim
