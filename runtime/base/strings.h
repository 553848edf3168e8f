#pragma once

#include <sstream>
#include <string>

namespace packcast {

// All arguments, one after the other, as text. For logs and errors, not for hot paths.
template <class... Args>
std::string StrCat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return std::move(out).str();
}

}  // namespace packcast
