// Weights from one trainer to several workers of a host, a GPU and a process each; the trainer's
// has the coordinator too, and starts the others. Tables, with raw ncclBroadcast among as many
// ranks in the same run: whole epochs to all workers; after one was killed in mid-transfer, to
// those that are left; and once it is back. A model of one row says what control costs. With
// --trainers, a root for each part of the rows; with --roots, what a second root would give NCCL.
// Ends with 1 when an epoch that lost a worker took more than 2 s longer than one that did not.
//
//   fleet --workers N [--trainers N] [--install staged,in-place] [--repeats R] [--roots]
//   LIST.json...

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/data/cuda/device.h"
#include "tests/bench/crew.h"
#include "tests/bench/fleet_cluster.h"
#include "tests/bench/fleet_flags.h"
#include "tests/bench/fleet_trainer.h"
#include "tests/bench/fleet_worker.h"
#include "tests/bench/raw_broadcast.h"
#include "tests/bench/take.h"
#include "tests/bench/two_roots.h"

namespace packcast::bench {
namespace {

constexpr uint64_t kRawPieces = 32;
constexpr int kRawRepeats = 5;
constexpr Duration kRawLimit = Seconds(90);
// What a lost worker may cost besides the transfer that it spoils.
constexpr double kLossSecondsMax = 2;
// Of a device, for what is neither weights nor buffers: contexts, NCCL, raw communicators.
constexpr uint64_t kRestBytes = uint64_t{2} << 30;

struct Case {
  std::string model;
  std::string list;
  std::vector<Row> rows;
  std::string install;
  int repeats = 0;
  bool has_middle = true;  // of a transfer, for a worker to be killed in
};

std::vector<Case> CasesOf(const FleetFlags& flags) {
  std::vector<Case> cases;
  constexpr int kMore = 20;  // the last ones are short
  std::vector<std::string> lists = flags.lists;
  lists.push_back("-");
  for (const std::string& list : lists) {
    const bool is_short = list == "-";
    Case one;
    one.list = list;
    one.rows = FleetRows(list, &one.model);
    one.repeats = is_short ? kMore * flags.repeats : flags.repeats;
    one.has_middle = !is_short;
    for (const std::string& install : flags.installs) {
      one.install = install;
      cases.push_back(one);
    }
  }
  return cases;
}

// The first process: it prints.
class Fleet {
 public:
  Fleet(const FleetFlags& flags, Crew* crew) : flags_(flags), crew_(crew) {}
  // Whether every loss cost little enough.
  bool Run();

 private:
  void MeasureRaw();
  bool Fits(const Case& one) const;
  void RunCase(const Case& one);
  void RunLosses(const Case& one, double transfer, FleetCluster* cluster);
  void PrintSeries(const Case& one, const Series& series, const char* first) const;
  void PrintLoss(int rank, const Loss& loss, double bytes, double transfer);
  void RunRoots();

  const FleetFlags& flags_;
  Crew* const crew_;
  std::vector<double> raw_;  // bytes per second, by the number of receivers; 0: not measured
  bool is_good_ = true;
};

void Fleet::MeasureRaw() {
  raw_.resize(static_cast<size_t>(flags_.workers) + 1);
  if (!flags_.measures_raw()) return;
  // Those that are left after a loss, and all.
  for (int workers = std::max(1, flags_.workers - 1); workers <= flags_.workers; ++workers) {
    crew_->Begin("raw broadcasts to " + std::to_string(workers), kRawLimit);
    const Place place = crew_->PlaceAmong(workers + 1);
    for (Channel* channel : place.channels) {
      channel->Send("raw " + std::to_string(place.size) + " " + std::to_string(kRawPieces) + " " +
                    std::to_string(kRawRepeats));
    }
    const double rate = RawBroadcastRate(place, flags_.library, kRawPieces, kRawRepeats);
    raw_[static_cast<size_t>(workers)] = rate;
    std::printf("raw ncclBroadcast to %d, until all have it: %.1f GB/s\n", workers, rate / 1e9);
  }
}

// Whether the weights fit into a worker's device, which is taken to be like this one.
bool Fleet::Fits(const Case& one) const {
  if (flags_.host) return true;
  const uint64_t processes =
      flags_.share > 0 ? (flags_.processes() + flags_.share - 1) / flags_.share : 1;
  uint64_t bytes = 0;
  for (const Row& row : one.rows) bytes += Take(RowBytes(row));
  const uint64_t copies = one.install == "staged" ? 2 : 1;
  const uint64_t needed =
      processes * (copies * bytes + flags_.buffers * (flags_.buffer_mib << 20) + kRestBytes);
  const uint64_t free = Take(FreeDeviceMemory(flags_.gpu()));
  if (needed <= free) return true;
  std::printf("%-18s %-9s skipped: %.1f GB are needed of a device, %.1f GB are free\n",
              one.model.c_str(), one.install.c_str(), static_cast<double>(needed) / 1e9,
              static_cast<double>(free) / 1e9);
  return false;
}

void Fleet::PrintSeries(const Case& one, const Series& series, const char* first) const {
  const double rate = series.bytes / series.median();
  const double raw = raw_[static_cast<size_t>(series.workers)];
  std::printf("%-18s %-9s %-9s %7d %9.2f %9.2f %9.2f %8.1f %7.3f %8.0f %s\n", one.model.c_str(),
              one.install.c_str(), series.transport.c_str(), series.workers, 1e3 * series.median(),
              1e3 * series.seconds.front(), 1e3 * series.seconds.back(), rate / 1e9,
              raw > 0 ? rate / raw : 0.0, 1e3 * series.first, first);
  std::fflush(stdout);
}

void Fleet::PrintLoss(int rank, const Loss& loss, double bytes, double transfer) {
  const double most = kLossSecondsMax + transfer;
  const bool is_late = loss.seconds > most;
  if (is_late) is_good_ = false;
  std::printf(
      "  worker-%d killed %.1f ms after Sync was called, when %.2f of %.2f GB had left: "
      "committed %.0f ms later (at most %.0f: %s), in attempt %llu\n",
      rank, 1e3 * loss.killed_after, static_cast<double>(loss.bytes_left) / 1e9, bytes / 1e9,
      1e3 * loss.seconds, 1e3 * most, is_late ? "TOO LATE" : "good",
      static_cast<unsigned long long>(loss.attempt));
  std::printf("  expelled: %s\n  phases of both attempts, ms: %s\n", loss.expelled.c_str(),
              loss.phases.c_str());
}

void Fleet::RunLosses(const Case& one, double transfer, FleetCluster* cluster) {
  for (int k = 0; k < flags_.kills; ++k) {
    const int rank = flags_.workers - k % flags_.workers;
    const Loss loss = cluster->RunWithLoss(rank);
    const Series survivors = cluster->RunSurvivors(loss, one.repeats);
    PrintLoss(rank, loss, survivors.bytes, transfer);
    PrintSeries(one, survivors, "(since the kill)");
    cluster->Replace(rank);
    PrintSeries(one, cluster->Run(flags_.workers, one.repeats), "(it is back)");
  }
}

void Fleet::RunCase(const Case& one) {
  if (!Fits(one)) return;
  FleetCluster cluster(flags_, one.install, one.list, crew_);
  const Series all = cluster.Run(flags_.workers, one.repeats);
  PrintSeries(one, all, "");
  if (!one.has_middle || flags_.kills == 0) return;
  if (flags_.workers == 1) {
    std::printf("  the loss of a worker: skipped, nobody would be left\n");
    return;
  }
  RunLosses(one, all.median(), &cluster);
}

void Fleet::RunRoots() {
  if (!flags_.measures_raw() || flags_.workers < 2) {
    std::printf("\ntwo roots: skipped, they take a GPU for each of 3 processes at least\n");
    return;
  }
  crew_->Begin("two roots", kRawLimit);
  const Place place = crew_->PlaceAmong(flags_.workers + 1);
  for (Channel* channel : place.channels) {
    channel->Send("roots " + std::to_string(kRawPieces) + " " + std::to_string(kRawRepeats));
  }
  PrintTwoRoots(place, flags_.library, kRawPieces, kRawRepeats);
}

bool Fleet::Run() {
  MeasureRaw();
  std::printf("%u buffers of %llu MiB; ms\n", flags_.buffers,
              static_cast<unsigned long long>(flags_.buffer_mib));
  std::printf("%-18s %-9s %-9s %7s %9s %9s %9s %8s %7s %8s\n", "model", "install", "transport",
              "workers", "median", "best", "worst", "GB/s", "of raw", "first");
  for (const Case& one : CasesOf(flags_)) RunCase(one);
  if (flags_.roots) RunRoots();
  std::fflush(stdout);
  return is_good_;
}

int Main(int argc, char** argv) {
  FleetFlags flags;
  CLI::App app("Times whole epochs from one GPU to several others.");
  app.add_option("--rank", flags.rank)->group("");
  app.add_option("--channel", flags.channel)->group("");
  app.add_option("--workers", flags.workers, "a GPU each, beside the trainer's")
      ->check(CLI::Range(1, 31));
  app.add_option("--trainers", flags.trainers,
                 "ranks of the trainer, each with its part of the rows")
      ->check(CLI::Range(1, 31));
  app.add_option("--install", flags.installs, "staged, in-place")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--repeats", flags.repeats, "of an epoch, after the first")
      ->check(CLI::Range(1, 1000));
  app.add_option("--kills", flags.kills, "of a worker in each case, one after another");
  app.add_flag("--roots", flags.roots, "also NCCL alone with two roots");
  app.add_option("--buffer-mib", flags.buffer_mib, "size of a buffer");
  app.add_option("--buffers", flags.buffers, "number of buffers");
  app.add_option("--peer-copies", flags.peer_copies, "whether they are offered");
  app.add_option("--library", flags.library, "libnccl.so.2; the system's if empty");
  app.add_flag("--host", flags.host, "tries this program without GPUs: the host's memory, no raw");
  app.add_option("--share", flags.share,
                 "tries it on a machine with so few GPUs: no raw, peer copies only")
      ->check(CLI::Range(0, 16));
  app.add_option("list", flags.lists, "JSON lists of tensors")->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  if (flags.rank > 0) {
    EndWithStarter();
    ServeFleet(flags);
  }
  const int gpus = flags.share > 0 ? flags.share : flags.processes();
  if (!flags.host && Take(CountDevices()) < gpus) {
    Die(std::to_string(gpus) + " GPUs are needed; see --share");
  }
  // Before the device, whose descriptors are nobody else's business.
  Crew crew(flags.processes() - 1, {argv + 1, argv + argc});
  if (!flags.host) Check(CudaStatus(cudaSetDevice(flags.gpu()), "choosing the device"));
  return Fleet(flags, &crew).Run() ? 0 : 1;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
