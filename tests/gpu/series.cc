#include "tests/gpu/series.h"

#include <algorithm>
#include <cstddef>

namespace packcast::trial {
namespace {

constexpr size_t kSamplesMin = 8;

double Slope(const std::vector<double>& samples, size_t begin) {
  const auto count = static_cast<double>(samples.size() - begin);
  double sum_x = 0;
  double sum_y = 0;
  for (size_t k = begin; k < samples.size(); ++k) {
    sum_x += static_cast<double>(k);
    sum_y += samples[k];
  }
  double above = 0;
  double below = 0;
  for (size_t k = begin; k < samples.size(); ++k) {
    const double x = static_cast<double>(k) - sum_x / count;
    above += x * (samples[k] - sum_y / count);
    below += x * x;
  }
  return below > 0 ? above / below : 0;
}

}  // namespace

Trend TrendOf(const std::vector<double>& samples, double tolerance) {
  Trend trend;
  if (samples.empty()) return trend;
  trend.first = samples.front();
  trend.last = samples.back();
  trend.largest = *std::max_element(samples.begin(), samples.end());
  const size_t quarter = samples.size() / 4;
  trend.slope = Slope(samples, quarter);
  if (samples.size() < kSamplesMin) return trend;
  const auto second = samples.begin() + static_cast<std::ptrdiff_t>(quarter);
  const auto last = samples.end() - static_cast<std::ptrdiff_t>(quarter);
  const double before = *std::max_element(second, second + static_cast<std::ptrdiff_t>(quarter));
  trend.grows = *std::min_element(last, samples.end()) > before + tolerance;
  return trend;
}

}  // namespace packcast::trial
