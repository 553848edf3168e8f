// Runs many seeds and prints one line: bazel run //tests/sim:explore -- --seeds 1000
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/sim/run.h"
#include "tests/sim/shrink.h"

namespace packcast::sim {
namespace {

constexpr std::string_view kHelp =
    R"(Simulates packcast clusters with faults and checks the invariants. What violates one is made
smaller (fewer workers, epochs and faults), and printed as a trace with the flags that replay it.

  --seeds N        how many seeds (default 100, or no limit with --seconds)
  --seconds S      for how long
  --first-seed S   the first one (default 1); a seed gives the same run each time
  --seed S         only this one
  --workers N[-M]  worker ranks of each cluster (default: 1 to 8, by the seed)
  --jobs N         threads (default: one for each processor)
  --keep-going     after a violation, too; lists all and shrinks the first
  --no-shrink      print the trace of the violation as it is
  --coverage       print how often each fault met each role in each state; a pair that never met,
                   unless a rule excludes it, counts as a failure
  --verbose        a line per seed
  --trace          print the trace of every seed
Of a replayed run:
  --calls N        syncs that the user calls at most
  --without A,B    traits that the scenario is to do without
  --only 3,17      of its faults, which are numbered, only these ("none": none)
  --mutation NAME  with a bug put in on purpose (mutation.h)
)";

struct Options {
  uint64_t seeds = 0;
  uint64_t seconds = 0;
  uint64_t first = 1;
  uint32_t workers_low = 0;
  uint32_t workers_high = 0;
  uint64_t jobs = 0;
  bool keep_going = false;
  bool shrink = true;
  bool verbose = false;
  bool trace = false;
  bool coverage = false;
  RunOptions run;

  RunOptions RunOf(uint64_t seed) const {
    RunOptions one = run;
    one.seed = seed;
    one.workers = workers_low;
    if (workers_high > workers_low) {
      one.workers += static_cast<uint32_t>(seed % (workers_high - workers_low + 1));
    }
    return one;
  }
};

// ---- flags --------------------------------------------------------------------------------------

bool ParseNumber(const std::string& text, uint64_t* out) {
  char* end = nullptr;
  *out = std::strtoull(text.c_str(), &end, 10);
  return !text.empty() && *end == '\0';
}

bool ParseWorkers(const std::string& text, Options* options) {
  const size_t dash = text.find('-');
  uint64_t low = 0;
  if (!ParseNumber(text.substr(0, dash), &low)) return false;
  uint64_t high = low;
  if (dash != std::string::npos && !ParseNumber(text.substr(dash + 1), &high)) return false;
  options->workers_low = static_cast<uint32_t>(low);
  options->workers_high = static_cast<uint32_t>(high);
  return low <= high && high <= 64;
}

bool ParseList(const std::string& flag, const std::string& text, RunOptions* run) {
  if (flag == "--only") run->only.emplace();
  if (flag == "--only" && text == "none") return true;
  std::istringstream list(text);
  for (std::string item; std::getline(list, item, ',');) {
    if (flag == "--only") {
      uint64_t number = 0;
      if (!ParseNumber(item, &number)) return false;
      run->only->push_back(static_cast<uint32_t>(number));
    } else if (const auto trait = TraitOf(item)) {
      run->without.insert(*trait);
    } else {
      return false;
    }
  }
  return true;
}

bool ParseValue(const std::string& flag, const std::string& value, Options* options) {
  if (flag == "--workers") return ParseWorkers(value, options);
  if (flag == "--only" || flag == "--without") return ParseList(flag, value, &options->run);
  if (flag == "--mutation") {
    const auto mutation = MutationOf(value);
    options->run.mutation = mutation.value_or(Mutation::kNone);
    return mutation.has_value();
  }
  uint64_t number = 0;
  if (!ParseNumber(value, &number)) return false;
  if (flag == "--seeds") options->seeds = number;
  if (flag == "--seconds") options->seconds = number;
  if (flag == "--jobs") options->jobs = number;
  if (flag == "--calls") options->run.calls = static_cast<uint32_t>(number);
  if (flag == "--first-seed" || flag == "--seed") options->first = number;
  if (flag == "--seed") options->seeds = 1;
  constexpr std::string_view kKnown[] = {"--seeds", "--seconds",    "--jobs",
                                         "--calls", "--first-seed", "--seed"};
  return std::find(std::begin(kKnown), std::end(kKnown), flag) != std::end(kKnown);
}

bool Parse(int argc, char** argv, Options* options) {
  for (int k = 1; k < argc; ++k) {
    std::string flag = argv[k];
    std::string value;
    if (const size_t equals = flag.find('='); equals != std::string::npos) {
      value = flag.substr(equals + 1);
      flag.resize(equals);
    }
    bool* const toggle = flag == "--coverage"     ? &options->coverage
                         : flag == "--verbose"    ? &options->verbose
                         : flag == "--trace"      ? &options->trace
                         : flag == "--keep-going" ? &options->keep_going
                                                  : nullptr;
    if (toggle != nullptr) {
      *toggle = true;
    } else if (flag == "--no-shrink") {
      options->shrink = false;
    } else {
      if (value.empty() && k + 1 < argc) value = argv[++k];
      if (!ParseValue(flag, value, options)) return false;
    }
  }
  if (options->seeds == 0) options->seeds = options->seconds == 0 ? 100 : UINT64_MAX;
  if (options->jobs == 0) options->jobs = std::max(1u, std::thread::hardware_concurrency());
  return true;
}

// ---- runs ---------------------------------------------------------------------------------------

struct Found {
  uint64_t seed = 0;
  std::string violation;
};

// What all threads have come to.
struct Sum {
  std::mutex mutex;  // guards what follows
  Stats stats;
  uint64_t seeds = 0;
  std::vector<Found> found;
};

void PrintTrace(RunOptions run, size_t lines) {
  run.lines = lines;
  for (const std::string& line : RunSeed(run).trace) std::cout << line << "\n";
}

using Clock = std::chrono::steady_clock;

// A thread's part: seed after seed, until there are enough, or it is late.
void RunSome(const Options& options, Clock::time_point until, std::atomic<uint64_t>* next,
             Sum* sum) {
  constexpr size_t kLines = 1'000'000;
  Stats stats;
  uint64_t seeds = 0;
  while (Clock::now() < until) {
    const uint64_t k = next->fetch_add(1);
    if (k >= options.seeds) break;
    const RunOptions run = options.RunOf(options.first + k);
    const RunResult result = RunSeed(run);
    stats.Add(result.stats);
    ++seeds;
    if (!options.verbose && !options.trace && result.violation.empty()) continue;
    std::lock_guard lock(sum->mutex);
    if (options.verbose) {
      std::cout << "seed " << run.seed << " workers " << result.workers << " committed "
                << result.stats.committed << " aborted " << result.stats.aborted << " faults "
                << result.faults.size() << " events " << result.stats.events << "\n";
    }
    if (options.trace) PrintTrace(run, kLines);
    if (result.violation.empty()) continue;
    sum->found.push_back({run.seed, result.violation});
    std::cout << "seed " << run.seed << " violates " << result.violation << std::endl;
    if (!options.keep_going) next->store(options.seeds);
  }
  std::lock_guard lock(sum->mutex);
  sum->stats.Add(stats);
  sum->seeds += seeds;
}

void RunAll(const Options& options, Sum* sum) {
  const auto until = options.seconds == 0 ? Clock::time_point::max()
                                          : Clock::now() + std::chrono::seconds(options.seconds);
  std::atomic<uint64_t> next{0};
  std::vector<std::thread> threads;
  for (uint64_t k = 1; k < std::min(options.jobs, options.seeds); ++k) {
    threads.emplace_back([&] { RunSome(options, until, &next, sum); });
  }
  RunSome(options, until, &next, sum);
  for (std::thread& thread : threads) thread.join();
}

// ---- what is printed ----------------------------------------------------------------------------

void PrintSummary(const Sum& sum, double seconds) {
  const Stats& s = sum.stats;
  std::cout << "seeds " << sum.seeds << ", seconds " << seconds << ", seeds/s "
            << static_cast<uint64_t>(static_cast<double>(sum.seeds) / seconds)
            << "\nepochs: committed " << s.committed << " aborted " << s.aborted << " retried "
            << s.retries << " of several flows " << s.several_flows << " partly reused "
            << s.partly_reused << ", early streams " << s.early << " given up " << s.early_given_up
            << " staged " << s.staged_early << " crossed " << s.staged_crossed
            << ", beside another coordinator " << s.rivals << " of a rival trainer " << s.takeovers
            << ", lazy ranks that gathered on " << s.lazy_drains << ", catch-ups " << s.caught_up
            << " given up " << s.not_caught_up << ", replicas decided alone " << s.decided_alone
            << ", decisions torn before their commits " << s.decisions_torn[0] << " between "
            << s.decisions_torn[1] << " after " << s.decisions_torn[2] << "\nevents " << s.events
            << ", messages " << s.messages << " lost " << s.messages_lost << " stale "
            << s.stale_dropped << " of other coordinators " << s.foreign << " of superseded lives "
            << s.zombies << " replayed " << s.replayed << "\nfaults";
  for (size_t k = 0; k < kFaults; ++k) {
    std::cout << " " << FaultName(static_cast<Fault>(k)) << " " << s.faults[k];
  }
  std::cout << "\nviolations " << sum.found.size() << std::endl;
}

// Whether nothing is missing.
bool PrintCoverage(const Coverage& coverage) {
  std::cout << coverage.Table();
  const std::vector<std::string> missing = coverage.Missing();
  for (const std::string& pair : missing) std::cout << "never met: " << pair << "\n";
  return missing.empty();
}

void Explain(const Options& options, uint64_t seed) {
  constexpr size_t kRuns = 3000;
  constexpr size_t kLines = 600;
  const RunOptions failing = options.RunOf(seed);
  if (!options.shrink) return PrintTrace(failing, kLines);
  const Shrunk shrunk = Shrink(failing, kRuns);
  PrintTrace(shrunk.options, kLines);
  std::cout << "seed " << seed << ", after " << shrunk.runs << " runs: " << shrunk.result.violation
            << "\n  workers " << shrunk.result.workers << ", calls " << shrunk.result.calls
            << ", faults " << shrunk.result.faults.size() << "\n  bazel run //tests/sim:explore -- "
            << FlagsOf(shrunk.options) << " --no-shrink\n";
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    std::cerr << kHelp;
    return 2;
  }
  const auto began = Clock::now();
  Sum sum;
  RunAll(options, &sum);
  const double seconds = ToSeconds(Clock::now() - began);
  std::sort(sum.found.begin(), sum.found.end(),
            [](const Found& a, const Found& b) { return a.seed < b.seed; });
  if (!sum.found.empty()) Explain(options, sum.found.front().seed);
  PrintSummary(sum, seconds);
  const bool covered = !options.coverage || PrintCoverage(sum.stats.coverage);
  return covered && sum.found.empty() ? 0 : 1;
}

}  // namespace
}  // namespace packcast::sim

int main(int argc, char** argv) { return packcast::sim::Main(argc, argv); }
