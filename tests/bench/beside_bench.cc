// What an engine that decodes loses while weights arrive on its GPU, and what the arriving loses.
// A coordinator, a trainer on one GPU, and on another a worker whose process also runs a loop of
// small kernels, CUDA graphs and allocations (tests/bench/decode_loop.h); three processes. One
// table, then the trainer frozen in mid-transfer. Ends with 1 when the loop stood still, or a sync
// failed that nobody disturbed.
//
//   beside [--install staged|in-place] [--seconds N] LIST.json   (--help has the rest)

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "actors/coordinator.h"
#include "actors/sources/generated_source.h"
#include "actors/sources/memory_sink.h"
#include "actors/trainer.h"
#include "actors/worker.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/clock.h"
#include "runtime/data/cuda/device.h"
#include "tests/bench/beside_table.h"
#include "tests/bench/decode_loop.h"
#include "tests/bench/duo.h"
#include "tests/bench/resident_source.h"
#include "tests/bench/step_loop.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

// Ranks; those of the trainer and of the worker, which come after it, have GPUs 0 and 1.
constexpr int kDirector = 0;
constexpr int kTrainer = 1;
constexpr int kProcesses = 3;

constexpr Duration kSyncLimit = Seconds(20);
constexpr Duration kAnswerLimit = Seconds(45);  // more than a sync and its grace take
constexpr Duration kStandstill = Seconds(10);
constexpr unsigned kEndSeconds = 20;  // a process that cannot end is ended
constexpr int kWarmUpSyncs = 3;       // connect, allocate, and fill both banks

struct Flags {
  int rank = -1;
  int channel = -1;
  std::string list;
  double seconds = 5;
  int ctas = 0;
  uint32_t blocks = 32;
  bool gentle = false;
  std::string install = "staged";
  std::string transport;
  uint64_t buffer_mib = 256;
  uint32_t buffers = 3;
  uint64_t direct_kib = 1024;
  uint32_t layers = 32;
  uint32_t churn = 16;
  int freezes = 3;
  int freeze_ms = 1000;
  std::string library;
  bool hash = true;
  bool host = false;

  int device() const { return rank - kTrainer; }
  DecodeOptions decode() const { return {device(), layers, churn}; }
};

std::optional<NcclTransportOptions> DeviceOf(const Flags& flags) {
  if (flags.host) return std::nullopt;
  NcclTransportOptions options;
  options.device = flags.device();
  options.library = flags.library;
  options.cta_count_max = flags.ctas;
  options.copy_blocks = flags.blocks;
  options.direct_bytes_min = flags.direct_kib << 10;
  return options;
}

void SendSteps(Channel* channel, const std::vector<Step>& steps) {
  channel->Send(
      std::string(reinterpret_cast<const char*>(steps.data()), steps.size() * sizeof(Step)));
}

std::vector<Step> ToSteps(const std::string& bytes) {
  std::vector<Step> steps(bytes.size() / sizeof(Step));
  if (!steps.empty()) std::memcpy(steps.data(), bytes.data(), steps.size() * sizeof(Step));
  return steps;
}

// ---- the trainer's and the worker's process -----------------------------------------------------

// Says its process ID, then syncs when told: the time it took, and an error or "".
void RunTrainer(const Flags& flags) {
  Channel channel(flags.channel);
  const std::string coordinator = channel.Receive();
  const ShapesFile file = Take(ShapesFile::Load(flags.list));
  std::unique_ptr<WeightSource> source;
  if (flags.host) {
    source = Take(GeneratedSource::Make(file.rows, 1));
  } else {
    source = std::make_unique<ResidentSource>(file.rows, flags.device());
  }
  Runtime::Options self;
  self.name = "trainer";
  const auto runtime = Take(Runtime::Start(self));
  TrainerOptions options;
  options.coordinator = coordinator;
  options.device = DeviceOf(flags);
  const auto trainer = Take(Trainer::Start(runtime.get(), options, source.get()));
  channel.Send(std::to_string(getpid()));
  uint64_t label = 0;
  while (channel.Receive() == "sync") {
    Interval time;
    time.begin = Now();
    const SyncResult result = trainer->Sync(++label, kSyncLimit);
    time.end = Now();
    channel.Send(std::string(reinterpret_cast<const char*>(&time), sizeof time));
    channel.Send(result.status.ok() ? "" : result.status.ToString());
  }
  alarm(kEndSeconds);
}

// Starts and stops the loop as told: an error or "", and after "pause" the steps.
void ServeLoop(Channel* channel, StepLoop* loop) {
  while (true) {
    const std::string command = channel->Receive();
    Status status;
    std::vector<Step> steps;
    if (command == "end") return;
    if (command == "pause") {
      StatusOr<std::vector<Step>> paused = loop->Pause(kStandstill);
      status = paused.status();
      if (status.ok()) steps = std::move(paused).value();
    } else {
      if (command == "run") loop->Resume();
      status = loop->WaitForStep(kStandstill);
    }
    channel->Send(status.ok() ? "" : status.ToString());
    if (command == "pause") SendSteps(channel, steps);
  }
}

void RunWorker(const Flags& flags) {
  Channel channel(flags.channel);
  const std::string coordinator = channel.Receive();
  std::unique_ptr<Stepper> stepper =
      flags.host ? MakeHostStepper() : MakeDecodeStepper(flags.decode());
  const uint64_t step_bytes = stepper->bytes();
  StepLoop loop(std::move(stepper));
  Check(loop.WaitPrepared(kAnswerLimit));
  MemorySink sink;
  if (!flags.host) sink.UseMemory(DeviceAllocator(flags.device()));
  Runtime::Options self;
  self.name = "worker";
  const auto runtime = Take(Runtime::Start(self));
  WorkerOptions options;
  options.name = "worker-0";
  options.replica = "replica-0";
  options.coordinator = coordinator;
  options.device = DeviceOf(flags);
  options.gentle = flags.gentle;
  options.own_thread = true;
  const auto worker = Take(Worker::Start(runtime.get(), options, &sink));
  channel.Send(std::to_string(step_bytes));
  ServeLoop(&channel, &loop);
  alarm(kEndSeconds);
}

// ---- what the director notes --------------------------------------------------------------------

// The coordinator's events, from its thread to ours.
class Watch {
 public:
  void OnEvent(const Value& event) {
    const Value* const name = event.Find("event");
    if (name == nullptr) return;
    std::lock_guard lock(mutex_);
    if (*name == Value("epoch.transfer")) transfer_ = true;
    if (*name == Value("epoch.end") && event.Find("report") != nullptr) {
      report_ = *event.Find("report");
    }
    changed_.notify_all();
  }
  void ForgetTransfer() {
    std::lock_guard lock(mutex_);
    transfer_ = false;
  }
  bool WaitForTransfer(Duration limit) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [this] { return transfer_; });
  }
  Value report() {
    std::lock_guard lock(mutex_);
    return report_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool transfer_ = false;
  Value report_;  // of the last epoch
};

// "12", or what 0 means.
std::string CtaCount(const Value& report) {
  const Value* const contract = report.Find("contract");
  const Value* const flows = contract != nullptr ? contract->Find("flows") : nullptr;
  const ValueArray* const list = flows != nullptr ? flows->AsArray() : nullptr;
  const Value* const count =
      list != nullptr && !list->empty() ? list->front().Find("cta_count_max") : nullptr;
  if (count == nullptr) return "not in the report";
  return *count == Value(0) ? "0 (as the transport likes)" : count->ToString();
}

// ---- the director's process ---------------------------------------------------------------------

enum class Pace { kNone, kBackToBack, kEachSecond };

class Director {
 public:
  explicit Director(const Flags& flags);
  void Run();

 private:
  std::string Answer(Channel* channel, const std::string& who);
  std::string TakeSync(Interval* time);
  Interval Sync();
  void TellLoop(const std::string& command);
  std::vector<Step> StopLoop();
  Phase Measure(const std::string& name, bool with_loop, Pace pace);
  void FreezeOnce(Duration into, Phase* phase);
  Phase MeasureFreezes(Duration usual);
  void Signal(int signal);
  void PrintSetup();

  const Flags flags_;
  Channel trainer_;
  Channel worker_;
  Watch watch_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Coordinator> coordinator_;
  pid_t trainer_pid_ = 0;
  double step_bytes_ = 0;
  double bytes_ = 0;  // of a sync
};

Director::Director(const Flags& flags)
    : flags_(flags), trainer_(flags.channel), worker_(flags.channel + 1) {
  Runtime::Options hub;
  hub.name = "coordinator";
  runtime_ = Take(Runtime::Start(hub));
  CoordinatorOptions options;
  options.policy.buffer_bytes = flags_.buffer_mib << 20;
  options.policy.buffer_count = flags_.buffers;
  options.policy.install = Take(InstallModeFromName(flags_.install));
  options.policy.transport = flags_.transport;
  options.policy.integrity = flags_.hash ? Integrity::kContentHash : Integrity::kNone;
  options.on_event = [this](const Value& event) { watch_.OnEvent(event); };
  coordinator_ = Take(Coordinator::Start(runtime_.get(), options));
  trainer_.Send(runtime_->endpoint());
  worker_.Send(runtime_->endpoint());
  trainer_pid_ = static_cast<pid_t>(std::stol(Answer(&trainer_, "the trainer")));
  step_bytes_ = std::stod(Answer(&worker_, "the worker"));
}

std::string Director::Answer(Channel* channel, const std::string& who) {
  pollfd readable{channel->fd(), POLLIN, 0};
  if (poll(&readable, 1, static_cast<int>(ToMilliseconds(kAnswerLimit))) != 1) {
    Die(who + " has not answered for " + std::to_string(ToMilliseconds(kAnswerLimit)) + " ms");
  }
  return channel->Receive();
}

// Of a sync that was begun: its error, or "".
std::string Director::TakeSync(Interval* time) {
  const std::string bytes = Answer(&trainer_, "the trainer");
  std::memcpy(time, bytes.data(), sizeof *time);
  return Answer(&trainer_, "the trainer");
}

Interval Director::Sync() {
  trainer_.Send("sync");
  Interval time;
  const std::string error = TakeSync(&time);
  if (!error.empty()) Die("a sync that nobody disturbed failed: " + error);
  return time;
}

void Director::TellLoop(const std::string& command) {
  worker_.Send(command);
  const std::string error = Answer(&worker_, "the worker");
  if (!error.empty()) Die("the loop stood still: " + error);
}

std::vector<Step> Director::StopLoop() {
  TellLoop("pause");
  return ToSteps(Answer(&worker_, "the worker"));
}

Phase Director::Measure(const std::string& name, bool with_loop, Pace pace) {
  Phase phase;
  phase.name = name;
  if (with_loop) TellLoop("run");
  phase.whole.begin = Now();
  const Time end = phase.whole.begin + FromSeconds(flags_.seconds);
  Time next = phase.whole.begin + Milliseconds(500);
  while (pace != Pace::kNone) {
    if (pace == Pace::kEachSecond) {
      if (next >= end) break;
      std::this_thread::sleep_until(next);
      next += Seconds(1);
    }
    if (Now() >= end) break;
    phase.syncs.push_back(Sync());
  }
  std::this_thread::sleep_until(end);
  phase.whole.end = Now();
  if (with_loop) phase.steps = StopLoop();
  phase.counted = {phase.whole};
  if (pace == Pace::kBackToBack) phase.counted = phase.syncs;
  return phase;
}

void Director::Signal(int signal) {
  if (kill(trainer_pid_, signal) != 0) Die("the trainer is gone");
}

// Stops the trainer `into` a transfer, and looks whether all goes on. Adds its steps to `phase`.
void Director::FreezeOnce(Duration into, Phase* phase) {
  Freeze freeze;
  freeze.into = into;
  TellLoop("run");
  const Time begin = Now();
  watch_.ForgetTransfer();
  trainer_.Send("sync");
  if (!watch_.WaitForTransfer(kAnswerLimit)) Die("no transfer began");
  std::this_thread::sleep_for(into);
  freeze.stopped.begin = Now();
  Signal(SIGSTOP);
  std::this_thread::sleep_for(Milliseconds(flags_.freeze_ms));
  Signal(SIGCONT);
  freeze.stopped.end = Now();
  freeze.error = TakeSync(&freeze.sync);
  TellLoop("wait");
  freeze.next = Sync();
  phase->counted.push_back({begin, Now()});
  const std::vector<Step> steps = StopLoop();
  PrintFreeze(freeze, steps);
  phase->syncs.push_back(freeze.next);
  phase->steps.insert(phase->steps.end(), steps.begin(), steps.end());
}

// At different moments of a transfer, which takes about `usual`.
Phase Director::MeasureFreezes(Duration usual) {
  Phase phase;
  phase.name = "loop, trainer frozen";
  phase.whole.begin = Now();
  for (int k = 0; k < flags_.freezes; ++k) {
    FreezeOnce(usual * (2 * k + 1) / (2 * flags_.freezes), &phase);
  }
  phase.whole.end = Now();
  return phase;
}

void Director::PrintSetup() {
  const ShapesFile file = Take(ShapesFile::Load(flags_.list));
  const Value report = watch_.report();
  const Value* const contract = report.Find("contract");
  if (const Value* bytes = report.Find("bytes")) (void)bytes->GetDouble(&bytes_);
  std::printf("%s: %zu tensors, %.2f GB; %u copy blocks, --ctas %d (0: as NCCL likes)%s\n",
              file.model.c_str(), file.rows.size(), bytes_ / 1e9, flags_.blocks, flags_.ctas,
              flags_.gentle ? "; gentle" : "");
  std::printf("contract: %s\n", contract != nullptr ? contract->ToString().c_str() : "none");
  std::printf("CTA count agreed: %s\n", CtaCount(report).c_str());
  std::printf("a step of the loop: ");
  if (flags_.host) {
    std::printf("a copy of %.2f GB in the host's memory\n\n", step_bytes_ / 1e9);
  } else {
    std::printf("%u kernels in a graph and 4 more, %.2f GB of weights; churn every %u steps\n\n",
                KernelsOfGraph(flags_.decode()), step_bytes_ / 1e9, flags_.churn);
  }
  std::fflush(stdout);
}

void Director::Run() {
  for (int k = 0; k < kWarmUpSyncs; ++k) (void)Sync();
  PrintSetup();
  PrintHead();
  const Phase alone = Measure("loop alone", true, Pace::kNone);
  const double rate = StepsPerSecond(alone);
  PrintRow(alone, rate, bytes_);
  const Phase beside = Measure("loop, syncs back to back", true, Pace::kBackToBack);
  PrintRow(beside, rate, bytes_);
  PrintRow(Measure("loop, a sync each second", true, Pace::kEachSecond), rate, bytes_);
  const Phase syncs = Measure("syncs alone", false, Pace::kBackToBack);
  PrintRow(syncs, rate, bytes_);
  PrintRow(Measure("loop alone, again", true, Pace::kNone), rate, bytes_);
  std::printf(
      "\nalone the loop reads %.0f GB/s; beside syncs it keeps %.3f of its rate, and a "
      "sync %.3f of its own\n",
      rate * step_bytes_ / 1e9, StepsPerSecond(beside) / rate,
      ToSeconds(MedianSync(syncs)) / ToSeconds(MedianSync(beside)));
  if (flags_.freezes > 0) PrintRow(MeasureFreezes(MedianSync(syncs)), rate, bytes_);
  trainer_.Send("end");
  worker_.Send("end");
  alarm(kEndSeconds);
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Times a decode-like loop beside syncs onto its GPU.");
  app.add_option("--rank", flags.rank)->group("");
  app.add_option("--channel", flags.channel)->group("");
  app.add_option("--seconds", flags.seconds, "of each phase");
  app.add_option("--ctas", flags.ctas, "blocks that NCCL may take; 0: as it likes");
  app.add_option("--blocks", flags.blocks, "of the copy kernels");
  app.add_flag("--gentle", flags.gentle, "the worker takes less of its device (WorkerOptions)");
  app.add_option("--install", flags.install, "staged or in-place");
  app.add_option("--transport", flags.transport, "its kind; the first that all offer if empty");
  app.add_option("--buffer-mib", flags.buffer_mib, "size of a buffer");
  app.add_option("--buffers", flags.buffers, "number of buffers");
  app.add_option("--direct-kib", flags.direct_kib, "rows from this size on go direct");
  app.add_option("--layers", flags.layers, "of the loop's model, 436 MB each");
  app.add_option("--churn", flags.churn, "steps from one allocation to the next; 0: none");
  app.add_option("--freezes", flags.freezes, "of the trainer");
  app.add_option("--freeze-ms", flags.freeze_ms, "each");
  app.add_option("--library", flags.library, "libnccl.so.2; the system's if empty");
  app.add_option("--hash", flags.hash, "whether content is verified");
  app.add_flag("--host", flags.host, "tries this program without GPUs: a loop of host copies");
  app.add_option("list,--list", flags.list, "JSON list of tensors")
      ->required()
      ->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  if (flags.rank < 0) return RunStar(kProcesses, {argv + 1, argv + argc});
  const bool uses_device = flags.rank != kDirector && !flags.host;
  if (uses_device) Check(CudaStatus(cudaSetDevice(flags.device()), "choosing the device"));
  if (flags.rank == kDirector) {
    Director(flags).Run();
  } else if (flags.rank == kTrainer) {
    RunTrainer(flags);
  } else {
    RunWorker(flags);
  }
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
