#include "tests/sim/trace.h"

#include <array>
#include <cstdio>

namespace packcast::sim {

void Trace::Record(Time now, std::string_view who, std::string_view what, const std::string& text) {
  std::array<char, 128> columns{};
  std::snprintf(columns.data(), columns.size(), "%13.6f  %-12.*s %-20.*s ",
                ToSeconds(now.time_since_epoch()), static_cast<int>(who.size()), who.data(),
                static_cast<int>(what.size()), what.data());
  lines_.push_back(columns.data() + text);
  if (lines_.size() > lines_kept_) lines_.pop_front();
}

}  // namespace packcast::sim
