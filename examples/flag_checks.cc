#include "examples/flag_checks.h"

#include <charconv>
#include <cstdlib>

#include "protocol/limits.h"

namespace packcast::examples {
namespace {

constexpr uint64_t kPortMax = 65535;
constexpr double kSecondsMax = 30.0 * 24 * 3600;

std::string WrongSeconds(const std::string& text, bool zero_too) {
  char* end = nullptr;
  const double seconds = std::strtod(text.c_str(), &end);
  const bool is_number = !text.empty() && end == text.c_str() + text.size();
  // Written so that what is no number (nan) is refused.
  if (is_number && seconds <= kSecondsMax && (zero_too ? seconds >= 0 : seconds > 0)) return "";
  return text + " is not a number of seconds " + (zero_too ? "from 0" : "above 0 and") +
         " up to 2592000, which are 30 days";
}

CLI::Validator Seconds(bool zero_too) {
  return CLI::Validator([zero_too](std::string& text) { return WrongSeconds(text, zero_too); },
                        zero_too ? "in [0 - 2592000]" : "in (0 - 2592000]");
}

}  // namespace

std::string WrongPort(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  if (!endpoint.starts_with("tcp://") || colon == std::string::npos) return "";
  const std::string port = endpoint.substr(colon + 1);
  if (port == "*" || WrongNumber(port, 0, kPortMax).empty()) return "";
  return endpoint + ": port \"" + port + "\" is not a number up to " + std::to_string(kPortMax);
}

std::string WrongNumber(const std::string& text, uint64_t least, uint64_t most) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  const bool is_plain = error == std::errc() && stop == end && (text[0] != '0' || text == "0");
  if (is_plain && number >= least && number <= most) return "";
  return text + " is not a whole number from " + std::to_string(least) + " to " +
         std::to_string(most);
}

CLI::Validator NumberFrom(uint64_t least, uint64_t most) {
  return CLI::Validator([least, most](std::string& text) { return WrongNumber(text, least, most); },
                        "in [" + std::to_string(least) + " - " + std::to_string(most) + "]");
}

CLI::Validator NumberFromOr(const std::string& special, uint64_t least, uint64_t most) {
  const CLI::Validator number = NumberFrom(least, most);
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        if (text == special) return "";
        const std::string wrong = WrongNumber(text, least, most);
        return wrong.empty() ? "" : wrong + ", nor " + special;
      },
      special + " or " + number.get_description());
}

CLI::Validator BufferLimit() {
  return NumberFromOr("0", limits::kBufferBytesMin, limits::kBufferBytesMax);
}

CLI::Validator SecondsFromZero() { return Seconds(true); }
CLI::Validator SecondsAboveZero() { return Seconds(false); }

void AddPolicyFlags(CLI::App* app, uint64_t* buffer_bytes, uint32_t* buffers,
                    std::string* install) {
  app->add_option("--buffer-bytes", *buffer_bytes, "largest buffer")
      ->check(NumberFrom(limits::kBufferBytesMin, limits::kBufferBytesMax))
      ->capture_default_str();
  app->add_option("--buffers", *buffers, "buffers for each rank")
      ->check(NumberFrom(limits::kBufferCountMin, limits::kBufferCountMax))
      ->capture_default_str();
  app->add_option("--install", *install, "staged or in-place")
      ->check(CLI::IsMember({"staged", "in-place"}))
      ->capture_default_str();
}

}  // namespace packcast::examples
