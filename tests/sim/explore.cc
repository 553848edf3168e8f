// Runs many seeds and prints one line: bazel run //tests/sim:explore -- --seeds 1000
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/run.h"

namespace packcast::sim {
namespace {

constexpr std::string_view kHelp =
    R"(Simulates packcast clusters with faults and checks the invariants.

  --seeds N        how many seeds (default 100)
  --first-seed S   the first one (default 1); a seed gives the same run each time
  --workers N      worker ranks of each cluster (default: 1 to 8, by the seed)
  --coverage       print how often each fault met each role in each state; a pair that never met,
                   unless a rule excludes it, counts as a failure
  --verbose        a line per seed
  --trace          print the trace of every seed
)";

struct Options {
  uint64_t seeds = 100;
  uint64_t first = 1;
  uint32_t workers = 0;
  bool verbose = false;
  bool trace = false;
  bool coverage = false;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int k = 1; k < argc; ++k) {
    std::string flag = argv[k];
    std::string value;
    if (const size_t equals = flag.find('='); equals != std::string::npos) {
      value = flag.substr(equals + 1);
      flag.resize(equals);
    }
    if (flag == "--coverage") {
      options->coverage = true;
      continue;
    }
    if (flag == "--verbose" || flag == "--trace") {
      (flag == "--trace" ? options->trace : options->verbose) = true;
      continue;
    }
    if (flag != "--seeds" && flag != "--first-seed" && flag != "--workers") return false;
    if (value.empty() && k + 1 < argc) value = argv[++k];
    char* end = nullptr;
    const uint64_t number = std::strtoull(value.c_str(), &end, 10);
    if (value.empty() || *end != '\0') return false;
    if (flag == "--seeds") options->seeds = number;
    if (flag == "--first-seed") options->first = number;
    if (flag == "--workers") options->workers = static_cast<uint32_t>(number);
  }
  return options->workers <= 64;
}

void Add(Stats* sum, const Stats& stats) {
  sum->events += stats.events;
  sum->messages += stats.messages;
  sum->messages_lost += stats.messages_lost;
  sum->stale_dropped += stats.stale_dropped;
  sum->committed += stats.committed;
  sum->aborted += stats.aborted;
  sum->retries += stats.retries;
  sum->several_flows += stats.several_flows;
  sum->partly_reused += stats.partly_reused;
  sum->early += stats.early;
  sum->early_given_up += stats.early_given_up;
  sum->staged_early += stats.staged_early;
  sum->staged_crossed += stats.staged_crossed;
  for (size_t k = 0; k < kFaults; ++k) sum->faults[k] += stats.faults[k];
  sum->coverage.Add(stats.coverage);
}

void PrintSummary(const Stats& sum, uint64_t seeds, double seconds, int violations) {
  std::cout << "seeds " << seeds << ", seconds " << seconds << ", seeds/s "
            << static_cast<uint64_t>(static_cast<double>(seeds) / seconds) << ", epochs committed "
            << sum.committed << " aborted " << sum.aborted << " retried " << sum.retries
            << " of several flows " << sum.several_flows << " partly reused " << sum.partly_reused
            << ", early streams " << sum.early << " given up " << sum.early_given_up << " staged "
            << sum.staged_early << " crossed " << sum.staged_crossed << ", events " << sum.events
            << ", messages " << sum.messages << " lost " << sum.messages_lost << " stale "
            << sum.stale_dropped << ", faults";
  for (size_t k = 0; k < kFaults; ++k) {
    std::cout << " " << FaultName(static_cast<Fault>(k)) << " " << sum.faults[k];
  }
  std::cout << ", violations " << violations << std::endl;
}

// Whether nothing is missing.
bool PrintCoverage(const Coverage& coverage) {
  std::cout << coverage.Table();
  const std::vector<std::string> missing = coverage.Missing();
  for (const std::string& pair : missing) std::cout << "never met: " << pair << "\n";
  return missing.empty();
}

void PrintTrace(RunOptions run) {
  run.record = true;
  for (const std::string& line : RunSeed(run).trace) std::cout << line << "\n";
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    std::cerr << kHelp;
    return 2;
  }
  const auto began = std::chrono::steady_clock::now();
  const auto seconds = [&] { return ToSeconds(std::chrono::steady_clock::now() - began); };
  Stats sum;
  for (uint64_t k = 0; k < options.seeds; ++k) {
    RunOptions run{.seed = options.first + k, .workers = options.workers};
    const RunResult result = RunSeed(run);
    Add(&sum, result.stats);
    if (options.verbose) {
      std::cout << "seed " << run.seed << " committed " << result.stats.committed << " aborted "
                << result.stats.aborted << " events " << result.stats.events << "\n";
    }
    if (options.trace) PrintTrace(run);
    if (result.violation.empty()) continue;
    PrintTrace(run);
    std::cout << "seed " << run.seed << " violates " << result.violation << "\n";
    PrintSummary(sum, k + 1, seconds(), 1);
    return 1;
  }
  PrintSummary(sum, options.seeds, seconds(), 0);
  return options.coverage && !PrintCoverage(sum.coverage) ? 1 : 0;
}

}  // namespace
}  // namespace packcast::sim

int main(int argc, char** argv) { return packcast::sim::Main(argc, argv); }
