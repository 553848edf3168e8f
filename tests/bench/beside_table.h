#pragma once

#include <string>
#include <vector>

#include "protocol/time.h"
#include "tests/bench/step_loop.h"

// What tests/bench/beside_bench.cc measured, and how it prints it.
namespace packcast::bench {

struct Phase {
  std::string name;
  Interval whole;
  std::vector<Step> steps;        // none: without the loop
  std::vector<Interval> syncs;    // that nobody disturbed
  std::vector<Interval> counted;  // where steps count
};

// A sync whose trainer was stopped for a while, and the one after it.
struct Freeze {
  Duration into{};  // the transfer
  Interval stopped;
  Interval sync;
  std::string error;  // of the sync; "": it was committed
  Interval next;
};

// While they count.
double StepsPerSecond(const Phase& phase);

Duration MedianSync(const Phase& phase);

void PrintHead();

// `alone`: the steps per second to compare with. `bytes`: of a sync.
void PrintRow(const Phase& phase, double alone, double bytes);

// `steps`: of the phase in which it was.
void PrintFreeze(const Freeze& freeze, const std::vector<Step>& steps);

}  // namespace packcast::bench
