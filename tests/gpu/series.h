#pragma once

#include <vector>

namespace packcast::trial {

// What a series of samples does.
struct Trend {
  double first = 0;
  double last = 0;
  double largest = 0;
  double slope = 0;    // a sample, by least squares over the last three quarters
  bool grows = false;  // steadily: see below
};

// Samples of something that should stay the same. What is set up once has come in the first
// quarter. It grows when every sample of the last quarter is above every sample of the second, by
// more than `tolerance`, so that a single outlier is no leak and a slow leak is one. Fewer than 8
// samples never grow.
Trend TrendOf(const std::vector<double>& samples, double tolerance);

}  // namespace packcast::trial
