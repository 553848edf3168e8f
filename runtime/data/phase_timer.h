#pragma once

#include <chrono>

namespace packcast {

// Adds the time it lives, in seconds, to `*sum`.
class PhaseTimer {
 public:
  explicit PhaseTimer(double* sum) : sum_(sum), start_(std::chrono::steady_clock::now()) {}
  ~PhaseTimer() {
    *sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  double* const sum_;
  const std::chrono::steady_clock::time_point start_;
};

}  // namespace packcast
