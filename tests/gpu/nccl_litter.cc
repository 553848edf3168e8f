#include "tests/gpu/nccl_litter.h"

#include <chrono>
#include <string>
#include <system_error>
#include <vector>

namespace packcast::trial {
namespace {

constexpr std::chrono::seconds kAge{30};  // communicators come up in a few

}  // namespace

void NcclLitter::Sweep() {
  const auto old = std::filesystem::file_time_type::clock::now() - kAge;
  std::error_code error;
  std::vector<std::filesystem::path> litter;
  for (auto at = std::filesystem::directory_iterator("/dev/shm", error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::error_code gone;
    const auto written = std::filesystem::last_write_time(at->path(), gone);
    const bool is_nccl = at->path().filename().string().starts_with("nccl-");
    if (!gone && is_nccl && written >= begin_ && written < old) litter.push_back(at->path());
  }
  for (const auto& path : litter) swept_ += std::filesystem::remove(path, error) ? 1 : 0;
}

}  // namespace packcast::trial
