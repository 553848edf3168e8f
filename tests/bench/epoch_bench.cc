// Whole epochs through the actors, from Trainer::Sync to its report. A coordinator and a trainer in
// one process, a worker in another, a GPU each; weights stay where they are on both. One table per
// list.
//
//   epoch [--install staged|in-place] [--repeats N] LIST.json...   (--help has the rest)

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "actors/coordinator.h"
#include "actors/sources/generated_source.h"
#include "actors/sources/memory_sink.h"
#include "actors/sources/row_cursor.h"
#include "actors/sources/row_memory.h"
#include "actors/trainer.h"
#include "actors/worker.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/clock.h"
#include "runtime/data/cuda/device.h"
#include "tests/bench/duo.h"
#include "tests/bench/take.h"
#include "tests/gpu/fill.h"

namespace packcast::bench {
namespace {

struct Flags {
  int rank = -1;
  int channel = -1;
  int repeats = 10;
  uint64_t buffer_mib = 256;
  uint32_t buffers = 3;
  uint64_t direct_kib = 1024;
  uint32_t blocks = 32;
  std::string install = "in-place";
  std::string library;
  bool hash = true;
  std::vector<std::string> lists;
};

NcclTransportOptions DeviceOf(const Flags& flags) {
  NcclTransportOptions options;
  options.device = flags.rank;
  options.library = flags.library;
  options.copy_blocks = flags.blocks;
  options.direct_bytes_min = flags.direct_kib << 10;
  return options;
}

// Random weights that lie on the device, as a trainer's do.
class ResidentSource final : public WeightSource {
 public:
  ResidentSource(const std::vector<Row>& rows, int device)
      : manifest_(Take(Manifest::Make(rows))),
        memory_(Take(RowMemory::Allocate(manifest_, "weights", DeviceAllocator(device)))) {
    for (size_t k = 0; k < memory_.size(); ++k) {
      rows_.push_back(memory_.row(k).data());
      if (memory_.row(k).empty()) continue;
      Check(CudaStatus(
          testing::FillRandom(memory_.row(k).data(), memory_.row(k).size(), k + 1, nullptr),
          "filling"));
    }
    Check(CudaStatus(cudaDeviceSynchronize(), "filling"));
  }
  StatusOr<Manifest> Describe(const SyncRequest&) override { return manifest_; }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo&) override {
    return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
  }
  uint64_t bytes() const { return manifest_.total_bytes(); }

 private:
  const Manifest manifest_;
  const RowMemory memory_;
  std::vector<const std::byte*> rows_;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

double Number(const Value& report, const char* name) {
  double number = 0;
  const Value* value = report.Find(name);
  if (value != nullptr) (void)value->GetDouble(&number);
  return number;
}

void PrintPhases(const Value& report) {
  std::printf("  phases of the last epoch, ms:");
  const Value* phases = report.Find("phases");
  for (const auto& [name, seconds] :
       phases != nullptr && phases->AsMap() != nullptr ? *phases->AsMap() : ValueMap()) {
    double value = 0;
    (void)seconds.GetDouble(&value);
    std::printf(" %s %.2f", name.c_str(), 1e3 * value);
  }
  std::printf("\n");
}

void RunTrainer(const Flags& flags, Channel* channel, const std::string& list) {
  const ShapesFile file = Take(ShapesFile::Load(list));
  Runtime::Options hub;
  hub.name = "coordinator";
  const auto coordinator_runtime = Take(Runtime::Start(hub));
  CoordinatorOptions policy;
  policy.policy.buffer_bytes = flags.buffer_mib << 20;
  policy.policy.buffer_count = flags.buffers;
  policy.policy.install = Take(InstallModeFromName(flags.install));
  policy.policy.integrity = flags.hash ? Integrity::kContentHash : Integrity::kNone;
  const auto coordinator = Take(Coordinator::Start(coordinator_runtime.get(), policy));
  ResidentSource source(file.rows, flags.rank);
  channel->Send(coordinator_runtime->endpoint());
  Runtime::Options self;
  self.name = "trainer";
  const auto runtime = Take(Runtime::Start(self));
  TrainerOptions options;
  options.coordinator = coordinator_runtime->endpoint();
  options.device = DeviceOf(flags);
  const auto trainer = Take(Trainer::Start(runtime.get(), options, &source));
  channel->Barrier();  // the worker is in
  std::vector<double> seconds;
  Value report;
  for (int k = 0; k <= flags.repeats; ++k) {
    const Time begin = Now();
    SyncResult result = trainer->Sync(static_cast<uint64_t>(k) + 1, Seconds(120));
    seconds.push_back(ToSeconds(Now() - begin));
    Check(result.status);
    report = std::move(result.report);
  }
  const double first = seconds.front();
  seconds.erase(seconds.begin());
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double gigabytes = static_cast<double>(source.bytes()) / 1e9;
  std::printf(
      "%-18s %-9s %5zu %7.2f GB  median %8.2f ms (%6.1f GB/s)  best %8.2f  worst %8.2f  "
      "first %7.0f\n",
      file.model.c_str(), flags.install.c_str(), file.rows.size(), gigabytes, 1e3 * median,
      gigabytes / median, 1e3 * seconds.front(), 1e3 * seconds.back(), 1e3 * first);
  std::printf("  its report says %.2f ms\n", 1e3 * Number(report, "seconds"));
  PrintPhases(report);
  std::fflush(stdout);
  channel->Barrier();
}

void RunWorker(const Flags& flags, Channel* channel) {
  const std::string coordinator = channel->Receive();
  MemorySink sink;
  sink.UseMemory(DeviceAllocator(flags.rank));
  Runtime::Options self;
  self.name = "worker";
  const auto runtime = Take(Runtime::Start(self));
  WorkerOptions options;
  options.name = "worker-0";
  options.replica = "replica-0";
  options.coordinator = coordinator;
  options.device = DeviceOf(flags);
  options.own_thread = true;
  const auto worker = Take(Worker::Start(runtime.get(), options, &sink));
  channel->Barrier();
  channel->Barrier();  // the trainer has what it wants
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Times whole epochs from one GPU to another.");
  app.add_option("--rank", flags.rank)->group("");
  app.add_option("--channel", flags.channel)->group("");
  app.add_option("--repeats", flags.repeats, "of an epoch, after the first");
  app.add_option("--buffer-mib", flags.buffer_mib, "size of a buffer");
  app.add_option("--buffers", flags.buffers, "number of buffers");
  app.add_option("--direct-kib", flags.direct_kib, "rows from this size on go direct");
  app.add_option("--blocks", flags.blocks, "of the copy kernels");
  app.add_option("--install", flags.install, "staged or in-place");
  app.add_option("--library", flags.library, "libnccl.so.2; the system's if empty");
  app.add_option("--hash", flags.hash, "whether content is verified");
  app.add_option("list", flags.lists, "JSON lists of tensors")
      ->required()
      ->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  if (flags.rank < 0) return RunDuo({argv + 1, argv + argc});
  Check(CudaStatus(cudaSetDevice(flags.rank), "choosing the device"));
  Channel channel(flags.channel);
  for (const std::string& list : flags.lists) {
    if (flags.rank == 0) {
      RunTrainer(flags, &channel, list);
    } else {
      RunWorker(flags, &channel);
    }
  }
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
