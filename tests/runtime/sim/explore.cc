// Runs many seeds and prints one line: bazel run //tests/runtime/sim:explore -- --seeds 1000
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

#include "tests/runtime/sim/run.h"

namespace packcast::rtsim {
namespace {

constexpr std::string_view kHelp =
    R"(Simulates processes with actors on a network with faults. Checks what docs/actors.md says.

  --seeds N        how many seeds (default 100)
  --first-seed S   the first one (default 1); a seed gives the same run each time
  --trace          print the trace of every seed
  --keep-going     do not stop at the first violation
)";

struct Options {
  uint64_t seeds = 100;
  uint64_t first = 1;
  bool trace = false;
  bool keep_going = false;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int k = 1; k < argc; ++k) {
    const std::string flag = argv[k];
    if (flag == "--trace" || flag == "--keep-going") {
      (flag == "--trace" ? options->trace : options->keep_going) = true;
      continue;
    }
    if ((flag != "--seeds" && flag != "--first-seed") || k + 1 == argc) return false;
    char* end = nullptr;
    const char* const value = argv[++k];
    const uint64_t number = std::strtoull(value, &end, 10);
    if (*value == '\0' || *end != '\0') return false;
    (flag == "--seeds" ? options->seeds : options->first) = number;
  }
  return true;
}

void PrintTrace(uint64_t seed) {
  for (const std::string& line : RunSeed({.seed = seed, .record = true}).trace) {
    std::cout << line << "\n";
  }
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    std::cerr << kHelp;
    return 2;
  }
  const auto began = std::chrono::steady_clock::now();
  Stats sum;
  uint64_t violations = 0;
  uint64_t seed = options.first;
  for (; seed < options.first + options.seeds; ++seed) {
    const RunResult result = RunSeed({.seed = seed});
    sum.Add(result.stats);
    if (options.trace) PrintTrace(seed);
    if (result.violation.empty()) continue;
    ++violations;
    if (!options.keep_going) PrintTrace(seed);
    std::cout << "seed " << seed << " violates: " << result.violation << "\n  bazel run "
              << "//tests/runtime/sim:explore -- --seeds 1 --first-seed " << seed << " --trace"
              << std::endl;
    if (!options.keep_going) break;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::cout << "seeds " << std::min(seed + 1, options.first + options.seeds) - options.first
            << ", seconds " << seconds << ", " << sum.ToString() << ", violations " << violations
            << std::endl;
  return violations > 0 ? 1 : 0;
}

}  // namespace
}  // namespace packcast::rtsim

int main(int argc, char** argv) { return packcast::rtsim::Main(argc, argv); }
