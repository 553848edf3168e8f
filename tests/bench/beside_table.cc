#include "tests/bench/beside_table.h"

#include <cstdio>

namespace packcast::bench {
namespace {

double Millis(Duration duration) { return 1e3 * ToSeconds(duration); }

void PrintSteps(const Phase& phase, double alone) {
  if (phase.steps.empty()) {
    std::printf("%8s %8s %8s %8s", "-", "-", "-", "-");
    return;
  }
  std::vector<Duration> lengths;
  for (const Step& step : phase.steps) lengths.push_back(step.time.length());
  const double rate = StepsPerSecond(phase);
  std::printf("%8.1f %8.3f %8.2f %8.1f", rate, rate / alone, Millis(Median(lengths)),
              Millis(LongestStep(phase.steps, phase.whole).time.length()));
}

void PrintSyncs(const Phase& phase, double bytes) {
  if (phase.syncs.empty()) {
    std::printf(" %6s %8s %8s", "-", "-", "-");
    return;
  }
  const Duration median = MedianSync(phase);
  std::printf(" %6zu %8.2f %8.1f", phase.syncs.size(), Millis(median),
              bytes / ToSeconds(median) / 1e9);
}

// What a step's thread does, in the mean.
void PrintParts(const std::vector<Step>& steps) {
  if (steps.empty()) {
    std::printf(" %8s %8s %8s", "-", "-", "-");
    return;
  }
  Duration launch{};
  Duration wait{};
  Duration churn{};
  for (const Step& step : steps) {
    launch += step.launch;
    wait += step.wait;
    churn += step.churn;
  }
  const auto count = static_cast<double>(steps.size());
  std::printf(" %8.3f %8.3f %8.3f", Millis(launch) / count, Millis(wait) / count,
              Millis(churn) / count);
}

}  // namespace

double StepsPerSecond(const Phase& phase) {
  Duration time{};
  for (const Interval& interval : phase.counted) time += interval.length();
  return time.count() == 0 ? 0 : StepsWithin(phase.steps, phase.counted) / ToSeconds(time);
}

Duration MedianSync(const Phase& phase) {
  std::vector<Duration> lengths;
  for (const Interval& sync : phase.syncs) lengths.push_back(sync.length());
  return Median(lengths);
}

void PrintHead() {
  std::printf("%-25s %8s %8s %17s %24s %26s\n", "", "steps/s", "of alone", "a step, ms",
              "syncs, ms, GB/s", "mean of a step, ms");
  std::printf("%-25s %8s %8s %8s %8s %6s %8s %8s %8s %8s %8s\n", "", "", "", "median", "longest",
              "", "median", "", "launch", "wait", "churn");
}

void PrintRow(const Phase& phase, double alone, double bytes) {
  std::printf("%-25s ", phase.name.c_str());
  PrintSteps(phase, alone);
  PrintSyncs(phase, bytes);
  PrintParts(phase.steps);
  std::printf("\n");
  std::fflush(stdout);
}

void PrintFreeze(const Freeze& freeze, const std::vector<Step>& steps) {
  const bool late = freeze.error.empty() && freeze.sync.end < freeze.stopped.begin;
  const Step longest = LongestStep(steps, {freeze.stopped.begin, freeze.next.end});
  std::printf("frozen for %.0f ms, %.1f ms into a transfer%s\n", Millis(freeze.stopped.length()),
              Millis(freeze.into), late ? ", which was over by then" : "");
  std::printf("  that sync took %.0f ms: %s\n", Millis(freeze.sync.length()),
              freeze.error.empty() ? "committed" : freeze.error.c_str());
  std::printf(
      "  the next took %.0f ms; longest step until its end %.1f ms"
      " (launch %.1f, wait %.1f, churn %.1f)\n",
      Millis(freeze.next.length()), Millis(longest.time.length()), Millis(longest.launch),
      Millis(longest.wait), Millis(longest.churn));
  std::fflush(stdout);
}

}  // namespace packcast::bench
