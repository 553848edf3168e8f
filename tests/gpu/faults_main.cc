// The fault matrix: a trainer or a worker is killed or frozen while NCCL connects, warms up, takes
// a step in, or has it on the wire; over NVLink, and with P2P and SHM off. Each time the victim is
// named, the survivor gives the attempt up, and the next sync with a restarted peer is committed,
// in the process that survived all rounds of a cell. Two GPUs; several clusters side by side.
//
//   faults [--rounds N] [--lanes N] [--points ...] [--host]     (--help has the rest)

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <latch>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "tests/gpu/fault_lane.h"
#include "tests/gpu/member_program.h"
#include "tests/gpu/nccl_litter.h"

namespace packcast::trial {
namespace {

constexpr int kFailuresInARow = 3;  // then the rest of a cell is left out
constexpr int kBadCellsInARow = 2;  // with no good round: then the lane ends
constexpr size_t kFailuresShown = 30;
constexpr Duration kLastRound = Seconds(5);  // that one which has begun gets after the end
constexpr Duration kNewsEvery = Seconds(15);

struct Flags {
  bool on_host = false;
  int rounds = 20;
  int lanes = 4;
  std::vector<std::string> points = {"init", "warmup", "enqueue", "wire"};
  std::vector<std::string> victims = {"trainer", "worker"};
  std::vector<std::string> signals = {"kill", "stop"};
  bool no_p2p = false;
  bool only_p2p = false;
  uint64_t mib = 0;
  uint64_t socket_mib = 256;
  uint64_t buffer_mib = 64;
  std::string install = "in-place";
  std::string library;
  std::string transport;
  int silence_ms = 900;
  bool gentle = false;
  int detect_ms = 1000;
  int abort_ms = 2000;
  int deep_every = 5;
  int seconds = 520;
  int standbys = 2;
  uint64_t seed = 1;
};

struct CellResult {
  FaultCell cell;
  std::vector<FaultTimes> times;  // of rounds that came to their end, late ones included
  int good = 0;
  int failed = 0;
};

// What all lanes share. Thread-safe.
class Board {
 public:
  Board(Flags flags, std::vector<FaultCell> cells)
      : flags_(std::move(flags)), end_(Now() + Seconds(flags_.seconds)) {
    for (FaultCell& cell : cells) results_.push_back({std::move(cell), {}, 0, 0});
  }
  // A cell that nobody has taken.
  CellResult* Take() {
    std::lock_guard lock(mutex_);
    return taken_ < results_.size() ? &results_[taken_++] : nullptr;
  }
  Time end() const { return end_; }
  bool is_late() const { return Now() >= end_; }
  void Add(CellResult* result, const FaultTimes& times);
  void AddFailure(CellResult* result, int round, const Status& status);
  void PrintCell(int lane, const CellResult& result);
  void PrintNews();
  void Sweep();
  // Whether every round was good.
  bool PrintTable();

 private:
  double seconds() const { return ToSeconds(Now() - begin_); }
  std::string Label(const CellResult& result) const {
    return TransportName(flags_.on_host, result.cell.p2p) + " " + CellName(result.cell);
  }

  const Flags flags_;
  const Time begin_ = Now();
  const Time end_;
  std::mutex mutex_;
  std::deque<CellResult> results_;
  size_t taken_ = 0;
  std::vector<std::string> failures_;
  NcclLitter litter_;
};

// "median/worst" in whole milliseconds.
std::string MedianAndWorst(const std::vector<FaultTimes>& times, double FaultTimes::*member) {
  if (times.empty()) return "-";
  std::vector<double> sorted;
  for (const FaultTimes& one : times) sorted.push_back(one.*member);
  std::sort(sorted.begin(), sorted.end());
  char text[64];
  std::snprintf(text, sizeof text, "%.0f/%.0f", sorted[sorted.size() / 2], sorted.back());
  return text;
}

void Board::Add(CellResult* result, const FaultTimes& times) {
  std::lock_guard lock(mutex_);
  result->times.push_back(times);
  result->good += times.late.empty() ? 1 : 0;
}

void Board::AddFailure(CellResult* result, int round, const Status& status) {
  std::lock_guard lock(mutex_);
  ++result->failed;
  failures_.push_back(Label(*result) + ", round " + std::to_string(round) + ": " +
                      status.ToString());
  std::printf("%6.1f s FAILED %s\n", seconds(), failures_.back().c_str());
}

void Board::PrintCell(int lane, const CellResult& result) {
  std::lock_guard lock(mutex_);
  std::printf("%6.1f s lane %d: %s: %d of %d good; ms detect %s abort %s recover %s\n", seconds(),
              lane, Label(result).c_str(), result.good, flags_.rounds,
              MedianAndWorst(result.times, &FaultTimes::detect_ms).c_str(),
              MedianAndWorst(result.times, &FaultTimes::abort_ms).c_str(),
              MedianAndWorst(result.times, &FaultTimes::recover_ms).c_str());
}

void Board::Sweep() {
  std::lock_guard lock(mutex_);
  litter_.Sweep();
}

void Board::PrintNews() {
  std::lock_guard lock(mutex_);
  size_t good = 0;
  size_t failed = 0;
  for (const CellResult& result : results_) {
    good += static_cast<size_t>(result.good);
    failed += static_cast<size_t>(result.failed);
  }
  const size_t all = results_.size() * static_cast<size_t>(flags_.rounds);
  const size_t done = good + failed;
  std::printf("%6.1f s %zu of %zu rounds good, %zu failed", seconds(), good, all, failed);
  if (done > 0) {
    std::printf("; all would take %.0f s",
                seconds() * static_cast<double>(all) / static_cast<double>(done));
  }
  std::printf("\n");
}

bool Board::PrintTable() {
  std::lock_guard lock(mutex_);
  std::printf("\n");
  // What processes wrote stands above.
  for (size_t k = 0; k < std::min(failures_.size(), kFailuresShown); ++k) {
    std::printf("FAILED %s\n", failures_[k].substr(0, failures_[k].find('\n')).c_str());
  }
  if (failures_.size() > kFailuresShown) std::printf("FAILED %zu in all\n", failures_.size());
  std::printf(
      "\nms, median/worst: detect: from the fault until the victim is named; abort: until "
      "the survivor\nhas none of the attempt left; recover: from the name to the next "
      "committed sync\n\n");
  std::printf("%-8s %-7s %-6s %-8s %3s %3s %7s %13s %13s %13s %7s\n", "wire", "victim", "signal",
              "point", "n", "ok", "not run", "detect", "abort", "recover", "retried");
  bool all_good = true;
  for (const CellResult& result : results_) {
    const int run = result.good + result.failed;
    const auto retried = std::count_if(result.times.begin(), result.times.end(),
                                       [](const FaultTimes& times) { return times.attempts > 1; });
    std::printf("%-8s %-7s %-6s %-8s %3d %3d %7d %13s %13s %13s %7d\n",
                TransportName(flags_.on_host, result.cell.p2p).c_str(),
                std::string(RoleName(result.cell.victim)).c_str(),
                result.cell.signal == SIGSTOP ? "stop" : "kill", result.cell.point.c_str(), run,
                result.good, flags_.rounds - run,
                MedianAndWorst(result.times, &FaultTimes::detect_ms).c_str(),
                MedianAndWorst(result.times, &FaultTimes::abort_ms).c_str(),
                MedianAndWorst(result.times, &FaultTimes::recover_ms).c_str(),
                static_cast<int>(retried));
    all_good = all_good && result.good == flags_.rounds;
  }
  std::printf("\nNCCL of the killed left %d files in /dev/shm, which were removed\n",
              litter_.swept());
  std::printf("%s after %.0f s\n", all_good ? "all good" : "NOT all good", seconds());
  return all_good;
}

std::vector<FaultCell> CellsOf(const Flags& flags) {
  std::vector<FaultCell> cells;
  for (const bool p2p : {true, false}) {
    if (p2p ? flags.no_p2p && !flags.on_host : flags.only_p2p || flags.on_host) continue;
    for (const std::string& signal : flags.signals) {
      for (const std::string& victim : flags.victims) {
        for (const std::string& point : flags.points) {
          cells.push_back({p2p, point, victim == "trainer" ? Role::kTrainer : Role::kWorker,
                           signal == "stop" ? SIGSTOP : SIGKILL});
        }
      }
    }
  }
  return cells;
}

// Guesses from what single steps took (docs/performance.md), for who waits.
double ExpectedSeconds(const Flags& flags, const std::vector<FaultCell>& cells) {
  double sum = 0;
  for (const FaultCell& cell : cells) {
    double round = flags.on_host ? 0.5 : 2.2;
    if (cell.signal == SIGSTOP) round += 1;
    if (!flags.on_host && (cell.point == "init" || cell.point == "warmup")) round += 0.6;
    sum += round * flags.rounds;
  }
  return sum / flags.lanes + (flags.on_host ? 2 : 20);
}

// Half of the weights travel packed, half direct; the host's have no direct rows.
WeightSize SizeOf(uint64_t mib, bool on_host) {
  if (on_host) return {mib, 0};
  return {mib - mib / 2, mib / 2};
}

FaultOptions OptionsOf(const Flags& flags) {
  FaultOptions options;
  options.trial.on_host = flags.on_host;
  options.trial.library = flags.library;
  options.trial.transport = flags.transport;
  options.trial.size = SizeOf(flags.mib, flags.on_host);
  options.trial.policy.buffer_bytes = flags.buffer_mib << 20;
  options.trial.policy.buffer_count = 3;
  options.trial.policy.install =
      flags.install == "staged" ? InstallMode::kStaged : InstallMode::kInPlace;
  options.trial.silence_ms = flags.silence_ms;
  options.trial.gentle = flags.gentle;
  options.trial.environment = NcclEnvironment();
  options.socket_size = SizeOf(flags.socket_mib, flags.on_host);
  options.detect_max = Milliseconds(flags.detect_ms);
  options.abort_max = Milliseconds(flags.abort_ms);
  options.deep_every = flags.deep_every;
  options.standbys = static_cast<size_t>(flags.standbys);
  return options;
}

// `all_up`: the lanes' first clusters. Nothing is timed while they come up, all at once.
void RunLane(const Flags& flags, int number, std::latch* all_up, Board* board) {
  FaultOptions options = OptionsOf(flags);
  options.end = board->end() + kLastRound;
  FaultLane lane(std::move(options), flags.seed * 1000 + static_cast<uint64_t>(number));
  int bad_cells = 0;
  bool is_up = false;
  while (CellResult* const result = bad_cells < kBadCellsInARow ? board->Take() : nullptr) {
    if (!std::exchange(is_up, true)) {
      lane.Prepare(result->cell);
      all_up->arrive_and_wait();
    }
    int in_a_row = 0;
    for (int round = 0; round < flags.rounds && in_a_row < kFailuresInARow; ++round) {
      if (board->is_late()) return;
      const StatusOr<FaultTimes> times = lane.Round(result->cell, round);
      if (times.ok()) board->Add(result, *times);
      const Status status = !times.ok()           ? times.status()
                            : times->late.empty() ? OkStatus()
                                                  : DeadlineExceeded(times->late);
      if (!status.ok() && board->is_late()) return;
      in_a_row = status.ok() ? 0 : in_a_row + 1;
      if (!status.ok()) board->AddFailure(result, round, status);
    }
    board->PrintCell(number, *result);
    board->Sweep();
    bad_cells = result->times.empty() && result->failed > 0 ? bad_cells + 1 : 0;
  }
  if (!is_up) all_up->count_down();  // there was no cell for it
}

int RunMatrix(const Flags& flags) {
  const std::vector<FaultCell> cells = CellsOf(flags);
  std::printf("%zu cells of %d rounds in %d lanes: %.0f s expected, %d s at most\n", cells.size(),
              flags.rounds, flags.lanes, ExpectedSeconds(flags, cells), flags.seconds);
  Board board(flags, cells);
  std::atomic<int> running{flags.lanes};
  std::mutex mutex;
  std::condition_variable changed;
  std::latch all_up(flags.lanes);
  std::vector<std::thread> lanes;
  for (int number = 0; number < flags.lanes; ++number) {
    lanes.emplace_back([&, number] {
      RunLane(flags, number, &all_up, &board);
      std::lock_guard lock(mutex);
      --running;
      changed.notify_all();
    });
  }
  std::unique_lock lock(mutex);
  while (!changed.wait_for(lock, kNewsEvery, [&] { return running == 0; })) board.PrintNews();
  lock.unlock();
  for (std::thread& lane : lanes) lane.join();
  return board.PrintTable() ? 0 : 1;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Kills and freezes trainers and workers at exact points of a sync.");
  const auto list = [&](const char* name, std::vector<std::string>* value, const char* help,
                        std::set<std::string> known) {
    app.add_option(name, *value, help)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::IsMember(std::move(known)));
  };
  app.add_flag("--host", flags.on_host, "weights in the host's memory: tries this program itself");
  app.add_option("--rounds", flags.rounds, "of each cell")->check(CLI::PositiveNumber);
  app.add_option("--lanes", flags.lanes, "clusters side by side")->check(CLI::Range(1, 16));
  list("--points", &flags.points, "init,warmup,enqueue,wire; or any: at random times",
       {"init", "warmup", "enqueue", "wire", "any"});
  list("--victims", &flags.victims, "trainer,worker", {"trainer", "worker"});
  list("--signals", &flags.signals, "kill,stop", {"kill", "stop"});
  app.add_flag("--no-p2p", flags.no_p2p, "only with P2P and SHM off");
  app.add_flag("--only-p2p", flags.only_p2p, "only over NVLink");
  app.add_option("--mib", flags.mib, "weights; 0: 1024, on the host 64");
  app.add_option("--socket-mib", flags.socket_mib, "weights with P2P and SHM off");
  app.add_option("--buffer-mib", flags.buffer_mib, "size of a buffer");
  app.add_option("--install", flags.install, "staged or in-place")
      ->check(CLI::IsMember({"staged", "in-place"}));
  app.add_option("--library", flags.library, "libnccl.so.2; the system's if empty");
  app.add_option("--transport", flags.transport,
                 "another than nccl, peer for instance; only the point \"any\" is known to it");
  app.add_flag("--gentle", flags.gentle, "workers unpack out of the trainer's buffers");
  app.add_option("--silence-ms", flags.silence_ms, "after which a member is lost");
  app.add_option("--detect-ms", flags.detect_ms, "until the victim is named, at most");
  app.add_option("--abort-ms", flags.abort_ms, "until the survivor has aborted, at most");
  app.add_option("--deep-every", flags.deep_every, "rounds until memory is read back; 0: never");
  app.add_option("--standbys", flags.standbys, "processes of a lane that are coming up")
      ->check(CLI::Range(1, 4));
  app.add_option("--seconds", flags.seconds, "no round begins after these");
  app.add_option("--seed", flags.seed, "of the steps at which faults happen");
  CLI11_PARSE(app, argc, argv);
  if (flags.mib == 0) flags.mib = flags.on_host ? 64 : 1024;
  if (flags.on_host) flags.buffer_mib = std::min<uint64_t>(flags.buffer_mib, 4);
  return RunMatrix(flags);
}

}  // namespace
}  // namespace packcast::trial

int main(int argc, char** argv) {
  using packcast::trial::kMemberWord;
  if (argc > 1 && std::strncmp(argv[1], kMemberWord, std::strlen(kMemberWord)) == 0) {
    return packcast::trial::RunMember(argc, argv);
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  packcast::SetLogLevel(packcast::LogLevel::kWarning);  // that victims are lost is no news
  return packcast::trial::Main(argc, argv);
}
