// Whole epochs through the actors, from Trainer::Sync to its report. A coordinator and a trainer in
// one process, a worker in another, a GPU each; weights stay where they are on both. One table,
// with raw ncclBroadcast measured in the same run: the first epoch, the steady state, the first
// after a worker left and another came. The last row is a model of one row: what control costs.
//
//   epoch [--install staged,in-place] [--ways peer,nccl] [--repeats N] LIST.json...

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "actors/coordinator.h"
#include "actors/sources/generated_source.h"
#include "actors/sources/memory_sink.h"
#include "actors/trainer.h"
#include "actors/worker.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/clock.h"
#include "tests/bench/duo.h"
#include "tests/bench/raw_broadcast.h"
#include "tests/bench/resident_source.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

constexpr uint64_t kRawPieces = 32;
constexpr int kRawRepeats = 5;

struct Flags {
  int rank = -1;
  int channel = -1;
  int repeats = 10;
  uint64_t buffer_mib = 256;
  uint32_t buffers = 3;
  uint64_t direct_kib = 1024;
  uint32_t blocks = 32;
  int ctas = 0;
  std::vector<std::string> installs = {"staged", "in-place"};
  std::vector<std::string> ways = {"peer", "nccl"};
  std::string library;
  bool hash = true;
  bool phases = false;
  std::vector<std::string> lists;
};

// One line of the table.
struct Case {
  std::string model;
  std::vector<Row> rows;
  std::string install;
  std::string way;
  int repeats = 0;
};

std::vector<Case> CasesOf(const Flags& flags) {
  std::vector<Case> cases;
  const auto add = [&](const std::string& model, const std::vector<Row>& rows, int repeats) {
    for (const std::string& way : flags.ways) {
      for (const std::string& install : flags.installs) {
        cases.push_back({model, rows, install, way, repeats});
      }
    }
  };
  for (const std::string& list : flags.lists) {
    const ShapesFile file = Take(ShapesFile::Load(list));
    add(file.model, file.rows, flags.repeats);
  }
  Row row;
  row.name = "row";
  row.dtype = Dtype::kBF16;
  row.shape = {1024};
  constexpr int kMore = 20;  // these are short
  add("one row of 2 KiB", {row}, kMore * flags.repeats);
  return cases;
}

NcclTransportOptions DeviceOf(const Flags& flags) {
  NcclTransportOptions options;
  options.device = flags.rank;
  options.library = flags.library;
  options.copy_blocks = flags.blocks;
  options.cta_count_max = flags.ctas;
  options.direct_bytes_min = flags.direct_kib << 10;
  return options;
}

void PrintPhasesOf(const char* who, const Value& holder) {
  const Value* const phases = holder.Find("phases");
  if (phases == nullptr || phases->AsMap() == nullptr) return;
  std::printf("    %s, ms:", who);
  for (const auto& [name, seconds] : *phases->AsMap()) {
    double value = 0;
    (void)seconds.GetDouble(&value);
    std::printf(" %s %.2f", name.c_str(), 1e3 * value);
  }
  std::printf("\n");
}

void PrintPhases(const Value& report) {
  PrintPhasesOf("epoch", report);
  if (const Value* trainer = report.Find("trainer")) PrintPhasesOf("trainer", *trainer);
  const Value* const workers = report.Find("workers");
  if (workers == nullptr || workers->AsArray() == nullptr) return;
  for (const Value& worker : *workers->AsArray()) PrintPhasesOf("worker", worker);
}

class TrainerSide {
 public:
  TrainerSide(const Flags& flags, const Case& one, Channel* channel)
      : flags_(flags), case_(one), channel_(channel), source_(one.rows, flags.rank) {
    Runtime::Options hub;
    hub.name = "coordinator";
    hub_ = Take(Runtime::Start(hub));
    CoordinatorOptions options;
    options.policy.buffer_bytes = flags.buffer_mib << 20;
    options.policy.buffer_count = flags.buffers;
    options.policy.install = Take(InstallModeFromName(one.install));
    options.policy.integrity = flags.hash ? Integrity::kContentHash : Integrity::kNone;
    coordinator_ = Take(Coordinator::Start(hub_.get(), options));
    channel_->Send(hub_->endpoint());
    TrainerOptions trainer;
    trainer.coordinator = hub_->endpoint();
    trainer.device = DeviceOf(flags);
    trainer.peer_copies = one.way != "nccl";
    trainer_ = Take(Trainer::Start(hub_.get(), trainer, &source_));
  }

  void Run(double raw_rate) {
    channel_->Barrier();  // the worker is in
    const double first = Sync();
    std::vector<double> seconds;
    for (int k = 0; k < case_.repeats; ++k) seconds.push_back(Sync());
    const Value steady = report_;
    channel_->Barrier();  // it goes, and another comes
    channel_->Barrier();
    const double rejoined = Sync();
    channel_->Barrier();
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    const double bytes = Number("bytes");
    std::printf("%-18s %-9s %-13s %9.2f %9.2f %9.2f %8.1f %7.3f %8.0f %8.0f\n", case_.model.c_str(),
                case_.install.c_str(), Transport().c_str(), 1e3 * median, 1e3 * seconds.front(),
                1e3 * seconds.back(), bytes / median / 1e9, bytes / median / raw_rate, 1e3 * first,
                1e3 * rejoined);
    if (flags_.phases) PrintPhases(steady);
    std::fflush(stdout);
  }

 private:
  double Sync() {
    const Time begin = Now();
    SyncResult result = trainer_->Sync(++label_, Seconds(120));
    const double seconds = ToSeconds(Now() - begin);
    Check(result.status);
    report_ = std::move(result.report);
    return seconds;
  }
  double Number(const char* name) const {
    double number = 0;
    const Value* value = report_.Find(name);
    if (value != nullptr) (void)value->GetDouble(&number);
    return number;
  }
  std::string Transport() const {
    const Value* contract = report_.Find("contract");
    const Value* name = contract == nullptr ? nullptr : contract->Find("transport");
    return name == nullptr || name->AsString() == nullptr ? "?" : *name->AsString();
  }

  const Flags& flags_;
  const Case& case_;
  Channel* const channel_;
  ResidentSource source_;
  std::unique_ptr<Runtime> hub_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Trainer> trainer_;
  uint64_t label_ = 0;
  Value report_;
};

void RunWorker(const Flags& flags, const Case& one, Channel* channel) {
  const std::string coordinator = channel->Receive();
  MemorySink sink;
  sink.UseMemory(DeviceAllocator(flags.rank));
  for (const std::string name : {"worker-0", "worker-1"}) {
    Runtime::Options self;
    self.name = name;
    const auto runtime = Take(Runtime::Start(self));
    WorkerOptions options;
    options.name = name;
    options.replica = "replica-0";
    options.coordinator = coordinator;
    options.device = DeviceOf(flags);
    options.peer_copies = one.way != "nccl";
    options.gentle = one.way == "gentle";
    options.own_thread = true;
    const auto worker = Take(Worker::Start(runtime.get(), options, &sink));
    channel->Barrier();
    channel->Barrier();  // the trainer has what it wants
  }
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Times whole epochs from one GPU to another.");
  app.add_option("--rank", flags.rank)->group("");
  app.add_option("--channel", flags.channel)->group("");
  app.add_option("--repeats", flags.repeats, "of an epoch, after the first");
  app.add_option("--buffer-mib", flags.buffer_mib, "size of a buffer");
  app.add_option("--buffers", flags.buffers, "number of buffers");
  app.add_option("--direct-kib", flags.direct_kib, "NCCL: rows from this size on go direct");
  app.add_option("--blocks", flags.blocks, "of the copy kernels");
  app.add_option("--ctas", flags.ctas, "that NCCL may use; 0: its own choice");
  app.add_option("--install", flags.installs, "staged, in-place")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--ways", flags.ways, "peer (copies), gentle (the same), nccl")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--library", flags.library, "libnccl.so.2; the system's if empty");
  app.add_option("--hash", flags.hash, "whether content is verified");
  app.add_flag("--phases", flags.phases, "prints the phases of each case's last epoch");
  app.add_option("list", flags.lists, "JSON lists of tensors")->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  if (flags.rank < 0) return RunDuo({argv + 1, argv + argc});
  Check(CudaStatus(cudaSetDevice(flags.rank), "choosing the device"));
  Channel channel(flags.channel);
  const double raw =
      RawBroadcastRate({flags.rank, 2, {&channel}}, flags.library, kRawPieces, kRawRepeats);
  if (flags.rank == 0) {
    std::printf("raw ncclBroadcast: %.1f GB/s; %u buffers of %llu MiB, %u blocks; ms\n", raw / 1e9,
                flags.buffers, static_cast<unsigned long long>(flags.buffer_mib), flags.blocks);
    std::printf("%-18s %-9s %-13s %9s %9s %9s %8s %7s %8s %8s\n", "model", "install", "transport",
                "median", "best", "worst", "GB/s", "of raw", "first", "rejoined");
  }
  for (const Case& one : CasesOf(flags)) {
    if (flags.rank == 0) {
      TrainerSide(flags, one, &channel).Run(raw);
    } else {
      RunWorker(flags, one, &channel);
    }
  }
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
