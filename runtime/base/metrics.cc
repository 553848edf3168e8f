#include "runtime/base/metrics.h"

namespace packcast {

Metric& Metrics::Get(const std::string& name) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<Metric>& metric = metrics_[name];
  if (metric == nullptr) metric = std::make_unique<Metric>();
  return *metric;
}

Value Metrics::Snapshot() const {
  ValueMap map;
  std::lock_guard lock(mutex_);
  for (const auto& [name, metric] : metrics_) map.emplace_back(name, metric->value());
  return Value(std::move(map));
}

}  // namespace packcast
