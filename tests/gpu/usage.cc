#include "tests/gpu/usage.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/gpu/bare_communicator.h"

namespace packcast::trial {
namespace {

uint64_t EntriesOf(const char* folder) {
  std::error_code error;
  uint64_t entries = 0;
  for (auto at = std::filesystem::directory_iterator(folder, error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    ++entries;
  }
  return entries;
}

}  // namespace

StatusOr<Usage> MeasureUsage(std::optional<int> device) {
  Usage usage;
  if (device) {
    PC_ASSIGN_OR_RETURN(usage.device_bytes, UsedDeviceMemory(*device));
  }
  uint64_t pages = 0;
  uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  usage.resident_bytes = resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  usage.descriptors = EntriesOf("/proc/self/fd") - 1;  // but the one that reads the folder
  usage.threads = EntriesOf("/proc/self/task");
  usage.shared_files = EntriesOf("/dev/shm");
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const bool shared = line.find(" /dev/shm/") != line.npos || line.find(" /memfd:") != line.npos;
    usage.shared_maps += shared ? 1 : 0;
  }
  return usage;
}

std::string UsageText(const Usage& usage) {
  std::ostringstream text;
  text << usage.device_bytes << ' ' << usage.resident_bytes << ' ' << usage.descriptors << ' '
       << usage.threads << ' ' << usage.shared_files << ' ' << usage.shared_maps;
  return text.str();
}

StatusOr<Usage> UsageFromText(const std::string& text) {
  Usage usage;
  std::istringstream in(text);
  in >> usage.device_bytes >> usage.resident_bytes >> usage.descriptors >> usage.threads >>
      usage.shared_files >> usage.shared_maps;
  if (!in) return InvalidArgument("\"" + text + "\" is no usage");
  return usage;
}

}  // namespace packcast::trial
