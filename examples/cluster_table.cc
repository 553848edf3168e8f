#include "examples/cluster_table.h"

#include <algorithm>
#include <cstdio>

#include "examples/json.h"

namespace packcast::examples {
namespace {

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// "transfer 0.120 install 0.003": phases that took a noticeable time.
std::string PhasesText(const Value& report) {
  const Value* phases = report.Find("phases");
  if (phases == nullptr || phases->AsMap() == nullptr) return "";
  std::string out;
  for (const auto& [name, seconds] : *phases->AsMap()) {
    double s = 0;
    if (!seconds.GetDouble(&s) || s < 0.0005) continue;
    out += (out.empty() ? "" : " ") + name + " " + Format("%.3f", s);
  }
  return out;
}

double LongestPause(const Value& report) {
  double longest = 0;
  const Value* workers = report.Find("workers");
  if (workers == nullptr || workers->AsArray() == nullptr) return 0;
  for (const Value& worker : *workers->AsArray()) {
    longest = std::max(longest, NumberAt(worker, "pause_seconds"));
  }
  return longest;
}

std::string ContractText(const Value& report) {
  const Value* contract = report.Find("contract");
  if (contract == nullptr) return "none";
  return BytesText(NumberAt(*contract, "buffer_bytes")) + " x " +
         Format("%.0f", NumberAt(*contract, "buffer_count")) + " " +
         TextAt(*contract, "transport") + " " + TextAt(*contract, "install");
}

}  // namespace

std::string BytesText(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return Format(bytes == static_cast<double>(static_cast<int64_t>(bytes)) ? "%.0f " : "%.1f ",
                bytes) +
         kUnits[unit];
}

std::string EpochTable(const std::vector<Value>& reports) {
  const std::vector<std::string> titles = {
      "epoch", "version", "label", "state",   "try",     "workers",         "contract",
      "bytes", "seconds", "GB/s",  "pause s", "slowest", "seconds by phase"};
  std::vector<std::vector<std::string>> rows = {titles};
  for (const Value& report : reports) {
    const Value* committed = report.Find("committed");
    const bool ok = committed != nullptr && committed->AsBool() && *committed->AsBool();
    const Value* workers = report.Find("workers");
    const size_t count = workers != nullptr && workers->AsArray() ? workers->AsArray()->size() : 0;
    const double seconds = NumberAt(report, "seconds");
    const Value* phases = report.Find("phases");
    const double transfer = phases != nullptr ? NumberAt(*phases, "transfer") : 0;
    const double bytes = NumberAt(report, "bytes");
    rows.push_back({Format("%.0f", NumberAt(report, "epoch")), TextAt(report, "version"),
                    Format("%.0f", NumberAt(report, "label")), ok ? "committed" : "FAILED",
                    Format("%.0f", NumberAt(report, "attempt")), std::to_string(count),
                    ContractText(report), BytesText(bytes), Format("%.3f", seconds),
                    transfer > 0 ? Format("%.2f", bytes / transfer / 1e9) : "-",
                    Format("%.3f", LongestPause(report)), TextAt(report, "slowest", "-"),
                    PhasesText(report)});
  }
  std::vector<size_t> widths(titles.size());
  for (const auto& row : rows) {
    for (size_t k = 0; k < row.size(); ++k) widths[k] = std::max(widths[k], row[k].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t k = 0; k < row.size(); ++k) {
      out += row[k];
      if (k + 1 < row.size()) out += std::string(widths[k] - row[k].size() + 2, ' ');
    }
    out += '\n';
  }
  return out;
}

std::string WrongWith(const Value& report, const std::string& expected) {
  const std::string epoch = "epoch " + Format("%.0f", NumberAt(report, "epoch")) + ": ";
  const Value* committed = report.Find("committed");
  if (committed == nullptr || committed->AsBool() == nullptr || !*committed->AsBool()) {
    return epoch + TextAt(report, "error", "not committed");
  }
  const std::string sent = TextAt(report, "digest");
  const std::string& source = expected.empty() ? sent : expected;
  if (sent != source) {
    return epoch + "the trainer sent " + (sent.empty() ? "nothing" : sent) + ", the source holds " +
           source;
  }
  const Value* workers = report.Find("workers");
  if (source.empty() || workers == nullptr || workers->AsArray() == nullptr ||
      workers->AsArray()->empty()) {
    return epoch + "the report names no digest or no worker";
  }
  for (const Value& worker : *workers->AsArray()) {
    const Value* verified = worker.Find("verified");
    const bool read_back = verified != nullptr && verified->AsBool() && *verified->AsBool();
    if (!read_back || TextAt(worker, "digest") != source) {
      return epoch + TextAt(worker, "name") + " holds " + TextAt(worker, "digest", "nothing") +
             ", the source " + source;
    }
  }
  return "";
}

}  // namespace packcast::examples
