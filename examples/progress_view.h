#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "protocol/value.h"

namespace packcast::examples {

// What the person at the terminal sees while epochs run: a bar on a terminal, plain lines in a log.
// Fed with the coordinator's events; keeps the reports. Thread-safe.
class ProgressView {
 public:
  explicit ProgressView(bool terminal) : terminal_(terminal) {}

  void OnEvent(const Value& event);
  // Prints a line of its own, clear of the bar.
  void Line(const std::string& text);
  // The digest of the source's bytes at `label`, before its epoch begins.
  void Expect(uint64_t label, std::string digest);
  // cluster_table.h's, with what is expected of the report's label.
  std::string WrongWith(const Value& report);
  // Reports since the last call.
  std::vector<Value> TakeReports();

 private:
  void Bar(uint64_t epoch, double bytes, double total);
  void Print(const std::string& text);
  void PrintEnd(const Value& report);
  void PrintCatchUp(const Value& report);
  std::string Expected(const Value& report) const;

  const bool terminal_;
  std::mutex mutex_;
  bool bar_shown_ = false;
  std::map<std::string, double> bytes_;       // by member, of the running epoch
  std::map<uint64_t, std::string> expected_;  // digests by label
  std::vector<Value> reports_;
};

}  // namespace packcast::examples
