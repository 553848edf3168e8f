// Runs many seeds and prints one line: bazel run -c opt //tests/runtime/sim:explore -- --seeds 1000
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "runtime/base/check.h"
#include "tests/runtime/sim/run.h"
#include "tests/sim/random.h"

namespace packcast::rtsim {
namespace {

constexpr std::string_view kHelp =
    R"(Simulates processes with actors on a network with faults. Checks what docs/actors.md says.

  --seeds N        how many seeds (default 100)
  --first-seed S   the first one (default 1); a seed gives the same run each time
  --jobs J         in so many processes (default: one for each processor)
  --hashes         print the hash of every seed's run
  --trace          print the trace of every seed
  --keep-going     do not stop at the first violation
)";

struct Options {
  uint64_t seeds = 100;
  uint64_t first = 1;
  uint64_t jobs = std::max(1u, std::thread::hardware_concurrency());
  bool hashes = false;
  bool trace = false;
  bool keep_going = false;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int k = 1; k < argc; ++k) {
    const std::string flag = argv[k];
    bool* const is_set = flag == "--trace"        ? &options->trace
                         : flag == "--keep-going" ? &options->keep_going
                         : flag == "--hashes"     ? &options->hashes
                                                  : nullptr;
    uint64_t* const number = flag == "--seeds"        ? &options->seeds
                             : flag == "--first-seed" ? &options->first
                             : flag == "--jobs"       ? &options->jobs
                                                      : nullptr;
    if (is_set != nullptr) *is_set = true;
    if (is_set != nullptr) continue;
    if (number == nullptr || k + 1 == argc) return false;
    char* end = nullptr;
    const char* const value = argv[++k];
    *number = std::strtoull(value, &end, 10);
    if (*value == '\0' || *end != '\0') return false;
  }
  options->jobs = std::clamp<uint64_t>(options->jobs, 1, 1024);
  return true;
}

void PrintTrace(uint64_t seed) {
  for (const std::string& line : RunSeed({.seed = seed, .record = true}).trace) {
    std::cout << line << "\n";
  }
}

// What one process has found; in memory that all share.
struct Found {
  Stats stats;
  uint64_t seeds = 0;
  uint64_t violations = 0;
  uint64_t hash = 0;  // of all runs, in any order
  std::atomic<bool> is_over{false};
};

void Explore(const Options& options, uint64_t seed, Found* found, const Found& first) {
  const RunResult result = RunSeed({.seed = seed});
  found->stats.Add(result.stats);
  found->hash += sim::Mix(seed ^ result.trace_hash);
  ++found->seeds;
  if (options.hashes) std::cout << "seed " << seed << " hash " << result.trace_hash << std::endl;
  if (options.trace) PrintTrace(seed);
  if (result.violation.empty() || first.is_over) return;
  ++found->violations;
  if (!options.keep_going) PrintTrace(seed);
  std::cout << "seed " << seed << " violates: " << result.violation << "\n  bazel run -c opt "
            << "//tests/runtime/sim:explore -- --seeds 1 --first-seed " << seed << " --trace"
            << std::endl;
}

// Forks: a simulation has its process for itself.
void ExploreAll(const Options& options, Found* found) {
  std::vector<pid_t> children;
  for (uint64_t job = 0; job < options.jobs; ++job) {
    const pid_t child = fork();
    PC_CHECK(child >= 0) << "cannot fork: give --jobs 1";
    if (child != 0) {
      children.push_back(child);
      continue;
    }
    for (uint64_t k = job; k < options.seeds && !found[0].is_over; k += options.jobs) {
      Explore(options, options.first + k, &found[job], found[0]);
      if (found[job].violations > 0 && !options.keep_going) found[0].is_over = true;
    }
    std::cout.flush();
    _exit(0);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    PC_CHECK(status == 0) << "a simulation crashed";
  }
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    std::cerr << kHelp;
    return 2;
  }
  const auto began = std::chrono::steady_clock::now();
  void* const shared = mmap(nullptr, options.jobs * sizeof(Found), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  PC_CHECK(shared != MAP_FAILED) << "no memory";
  auto* const found = static_cast<Found*>(shared);
  for (uint64_t job = 0; job < options.jobs; ++job) new (found + job) Found;
  ExploreAll(options, found);
  Found sum;
  for (uint64_t job = 0; job < options.jobs; ++job) {
    sum.stats.Add(found[job].stats);
    sum.seeds += found[job].seeds;
    sum.violations += found[job].violations;
    sum.hash += found[job].hash;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::cout << "seeds " << sum.seeds << ", seconds " << seconds << ", " << sum.stats.ToString()
            << ", hash " << sum.hash << ", violations " << sum.violations << std::endl;
  return sum.violations > 0 ? 1 : 0;
}

}  // namespace
}  // namespace packcast::rtsim

int main(int argc, char** argv) { return packcast::rtsim::Main(argc, argv); }
