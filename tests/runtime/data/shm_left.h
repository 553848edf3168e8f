#pragma once

#include <dirent.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace packcast::testing {

// Descriptors and mappings of packcast's shared memory in this process.
struct ShmLeft {
  int descriptors = 0;
  int mappings = 0;
  friend bool operator==(const ShmLeft&, const ShmLeft&) = default;
};

inline ShmLeft CountShm() {
  ShmLeft left;
  DIR* const folder = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(folder)) {
    char target[256];
    const ssize_t size = readlinkat(dirfd(folder), entry->d_name, target, sizeof target);
    if (size > 0 && std::string(target, static_cast<size_t>(size)).find("memfd:packcast") == 1) {
      ++left.descriptors;
    }
  }
  closedir(folder);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:packcast") != std::string::npos) ++left.mappings;
  }
  return left;
}

}  // namespace packcast::testing
