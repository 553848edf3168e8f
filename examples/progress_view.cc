#include "examples/progress_view.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "examples/cluster_table.h"
#include "examples/json.h"

namespace packcast::examples {
namespace {

constexpr int kBarWidth = 40;

}  // namespace

void ProgressView::OnEvent(const Value& event) {
  std::lock_guard lock(mutex_);
  const std::string name = TextAt(event, "event");
  if (name == "progress") {
    bytes_[TextAt(event, "member")] = NumberAt(event, "bytes");
    double least = NumberAt(event, "total_bytes");
    for (const auto& [member, bytes] : bytes_) least = std::min(least, bytes);
    if (terminal_)
      Bar(static_cast<uint64_t>(NumberAt(event, "epoch")), least, NumberAt(event, "total_bytes"));
  } else if (name == "epoch.begin") {
    bytes_.clear();
    if (terminal_) {
      Bar(static_cast<uint64_t>(NumberAt(event, "epoch")), 0, NumberAt(event, "bytes"));
    } else {
      Print("epoch " + std::to_string(static_cast<int>(NumberAt(event, "epoch"))) + " of " +
            BytesText(NumberAt(event, "bytes")) + " begins");
    }
  } else if (name == "replica.behind") {
    const Value* served = event.Find("served");
    const bool waits = served == nullptr || served->AsBool() == nullptr || !*served->AsBool();
    Print(TextAt(event, "replica") + " is behind version " + TextAt(event, "newest") +
          (waits ? ", and waits for the next epoch" : ""));
  } else if (name == "catch_up.begin") {
    bytes_.clear();
  } else if (name == "catch_up.end") {
    if (const Value* report = event.Find("report")) PrintCatchUp(*report);
  } else if (name == "epoch.end") {
    const Value* report = event.Find("report");
    if (report == nullptr) return;
    reports_.push_back(*report);
    PrintEnd(*report);
  } else if (name == "epoch.abort") {
    Print("attempt " + std::to_string(static_cast<int>(NumberAt(event, "attempt"))) +
          " is given up: " + TextAt(event, "reason"));
  } else if (name == "replica.expelled") {
    Print(TextAt(event, "replica") + " is expelled: " + TextAt(event, "reason"));
  } else if (name == "member.lost") {
    const std::string cause = TextAt(event, "cause");
    const bool left = cause.starts_with("cancelled");
    Print(TextAt(event, "member") + (left ? " left" : " is lost: " + cause));
  } else if (name == "member.joined") {
    Print(TextAt(event, "member") + " joined");
  } else if (name == "member.refused") {
    Print(TextAt(event, "member") + " is refused: " + TextAt(event, "error"));
  }
}

void ProgressView::PrintEnd(const Value& report) {
  const std::string expected = Expected(report);
  const std::string wrong = examples::WrongWith(report, expected);
  const std::string how =
      expected.empty() ? " committed, all workers as sent" : " committed and verified";
  Print("epoch " + std::to_string(static_cast<int>(NumberAt(report, "epoch"))) +
        (wrong.empty() ? how + ", version " + TextAt(report, "version") + ", attempt " +
                             std::to_string(static_cast<int>(NumberAt(report, "attempt")))
                       : " FAILED: " + wrong));
}

void ProgressView::PrintCatchUp(const Value& report) {
  const std::string error = TextAt(report, "error");
  char took[64];
  std::snprintf(took, sizeof(took), " in %.2f s", NumberAt(report, "seconds"));
  std::string who;
  if (const Value* workers = report.Find("workers"); workers != nullptr && workers->AsArray()) {
    for (const Value& worker : *workers->AsArray()) {
      who += (who.empty() ? "" : ", ") + TextAt(worker, "name");
    }
  }
  Print("catch-up from " + TextAt(report, "provider") +
        (error.empty() ? ": " + who + " at version " + TextAt(report, "version") + took
                       : " is given up: " + error));
}

std::string ProgressView::Expected(const Value& report) const {
  const auto found = expected_.find(static_cast<uint64_t>(NumberAt(report, "label")));
  return found == expected_.end() ? "" : found->second;
}

void ProgressView::Expect(uint64_t label, std::string digest) {
  std::lock_guard lock(mutex_);
  expected_[label] = std::move(digest);
}

std::string ProgressView::WrongWith(const Value& report) {
  std::lock_guard lock(mutex_);
  return examples::WrongWith(report, Expected(report));
}

void ProgressView::Bar(uint64_t epoch, double bytes, double total) {
  const double part = total > 0 ? std::min(1.0, bytes / total) : 0;
  const int full = static_cast<int>(part * kBarWidth);
  std::printf("\repoch %llu [%s%s] %3.0f %% of %s ", static_cast<unsigned long long>(epoch),
              std::string(static_cast<size_t>(full), '#').c_str(),
              std::string(static_cast<size_t>(kBarWidth - full), '.').c_str(), part * 100,
              BytesText(total).c_str());
  std::fflush(stdout);
  bar_shown_ = true;
}

void ProgressView::Print(const std::string& text) {
  // Erases the bar's line first.
  std::printf("%s%s\n", bar_shown_ ? "\r\x1b[K" : "", text.c_str());
  std::fflush(stdout);
  bar_shown_ = false;
}

void ProgressView::Line(const std::string& text) {
  std::lock_guard lock(mutex_);
  Print(text);
}

std::vector<Value> ProgressView::TakeReports() {
  std::lock_guard lock(mutex_);
  return std::exchange(reports_, {});
}

}  // namespace packcast::examples
