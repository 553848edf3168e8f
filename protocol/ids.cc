#include "protocol/ids.h"

#include <cstdio>

namespace packcast {

std::string ToString(const Version& version) {
  if (version.IsZero()) return "none";
  return std::to_string(version.term.counter) + "." + std::to_string(version.epoch.value);
}

std::string ToString(const MemberId& member) {
  char suffix[20];
  std::snprintf(suffix, sizeof suffix, "#%04x",
                static_cast<unsigned>(member.incarnation.value & 0xffff));
  return member.name + suffix;
}

}  // namespace packcast
