#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "protocol/value.h"

namespace packcast {

// A number that anyone may change: a counter when it only grows, else a gauge. Thread-safe.
class Metric {
 public:
  void Add(int64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  void Set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// The metrics of one runtime by name. Thread-safe. A metric lives as long as its registry.
class Metrics {
 public:
  // Finds or makes. Names: lower case with underscores, unit last, counters end in "_total".
  Metric& Get(const std::string& name);
  // {"name": value, ...} in the order of names.
  Value Snapshot() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Metric>> metrics_;
};

}  // namespace packcast
