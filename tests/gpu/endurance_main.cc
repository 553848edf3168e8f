// Endurance: a thousand epochs with fifty re-negotiations between a trainer and a worker: buffers
// of another size, members that leave and come back, syncs that are cancelled in their middle.
// Nothing may grow: device memory, descriptors, threads, shared segments, resident memory; and the
// device memory beyond CUDA, NCCL, weights and buffers is little. Two GPUs, with nobody else on
// them.
//
//   endurance [--epochs N] [--fill] [--host]     (--help has the rest)

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/base/clock.h"
#include "tests/gpu/bare_communicator.h"
#include "tests/gpu/member_program.h"
#include "tests/gpu/series.h"
#include "tests/gpu/trial.h"
#include "tests/gpu/usage.h"

namespace packcast::trial {
namespace {

constexpr Duration kStepMax = Seconds(30);
constexpr double kExtraMibMax = 16;
constexpr uint64_t kFillLeavesMib = 1024;
// Heaps breathe; device memory comes in pieces of this size.
constexpr double kResidentToleranceMib = 8;
constexpr double kDeviceToleranceMib = 2;

struct Flags {
  bool on_host = false;
  bool fill = false;
  int epochs = 1000;
  int renegotiate_every = 20;
  int sample_every = 50;
  int deep_every = 100;
  uint64_t packed_mib = 0;
  uint64_t direct_mib = 128;
  uint64_t buffer_mib = 64;
  uint64_t other_buffer_mib = 48;
  uint32_t buffers = 2;
  std::string install = "in-place";
  std::string library;
  std::string transport;
  int seconds = 115;
  bool plant_leak = false;
};

double Mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }
// Of differences, which may be negative.
double MibBetween(uint64_t less, uint64_t more) { return Mib(more) - Mib(less); }

constexpr std::array<Role, 2> kRoles = {Role::kTrainer, Role::kWorker};

struct Sample {
  Usage usage;
  uint64_t buffer_bytes = 0;  // that are expected
};

class Endurance {
 public:
  explicit Endurance(Flags flags) : flags_(std::move(flags)) {}
  Status Run();
  void PrintTails() const;
  // Prints what was measured. Whether nothing grows.
  bool PrintSeries() const;
  bool extra_is_little() const { return extra_is_little_; }

 private:
  // A member, and what was seen of it.
  struct Side {
    std::unique_ptr<MemberProcess> process;
    BareUse bare;
    std::vector<Sample> samples;
  };
  Status SetUp();
  Status MeasureBare();
  Status FirstEpoch();
  Status Account(Role role, uint64_t joined);
  Status Epoch(int number);
  Status Renegotiate();
  Status ChangeBuffers();
  Status TakeSamples(int number);
  Status CheckMemory();
  StatusOr<Usage> UsageOf(Role role);
  bool PrintSide(const std::string& name, const std::vector<Sample>& samples,
                 bool judges_memory) const;
  Side& side(Role role) { return sides_[role == Role::kTrainer ? 0 : 1]; }
  const Side& side(Role role) const { return sides_[role == Role::kTrainer ? 0 : 1]; }
  double seconds() const { return ToSeconds(Now() - begin_); }
  // Each step has a time of its own, and all together have one.
  void NextStep() { trial_->deadline = std::min(Now() + kStepMax, end_); }

  const Flags flags_;
  const Time begin_ = Now();
  const Time end_ = begin_ + Seconds(flags_.seconds);
  std::unique_ptr<Trial> trial_;
  std::array<Side, 2> sides_;
  std::vector<Sample> own_;
  uint64_t label_ = 0;
  Value report_;  // of the last committed sync
  uint64_t buffer_bytes_ = 0;
  std::vector<double> sync_ms_;
  int renegotiations_ = 0;
  int cancelled_ = 0;
  int cancelled_late_ = 0;
  int rejoined_ = 0;
  int resized_ = 0;
  bool extra_is_little_ = true;
};

Status Endurance::SetUp() {
  TrialOptions options;
  options.on_host = flags_.on_host;
  options.library = flags_.library;
  options.transport = flags_.transport;
  options.size = {flags_.packed_mib, flags_.on_host ? 0 : flags_.direct_mib};
  options.policy.buffer_bytes = flags_.buffer_mib << 20;
  options.policy.buffer_count = flags_.buffers;
  options.policy.install =
      flags_.install == "staged" ? InstallMode::kStaged : InstallMode::kInPlace;
  options.environment = NcclEnvironment();
  PC_ASSIGN_OR_RETURN(trial_, Trial::Start(std::move(options)));
  NextStep();
  for (const Role role : kRoles) {
    PC_ASSIGN_OR_RETURN(side(role).process, trial_->StartProcess(role));
  }
  for (const Role role : kRoles) PC_RETURN_IF_ERROR(trial_->AwaitReady(side(role).process.get()));
  std::printf("%6.1f s both processes are up\n", seconds());
  return OkStatus();
}

StatusOr<Usage> Endurance::UsageOf(Role role) {
  PC_ASSIGN_OR_RETURN(const std::string text, trial_->Ask(side(role).process.get(), "usage"));
  return UsageFromText(text);
}

// What NCCL takes, with nothing of packcast around it.
Status Endurance::MeasureBare() {
  if (!flags_.transport.empty() && flags_.transport != "nccl") {
    for (const Role role : kRoles) {
      PC_ASSIGN_OR_RETURN(const Usage usage, UsageOf(role));
      const uint64_t now = usage.device_bytes;
      side(role).bare = {now, now, now, now};
    }
    return OkStatus();
  }
  PC_ASSIGN_OR_RETURN(const BareId id, MakeBareId(flags_.library));
  const uint64_t from = trial_->board().end();
  for (const Role role : kRoles) {
    const std::string rank = role == Role::kTrainer ? "0" : "1";
    PC_RETURN_IF_ERROR(side(role).process->Send("bare-up " + id.text + " " + rank));
  }
  for (const Role role : kRoles) {
    PC_RETURN_IF_ERROR(trial_->Answer(side(role).process.get(), "bare-up", from).status());
  }
  for (const Role role : kRoles) PC_RETURN_IF_ERROR(side(role).process->Send("bare-down"));
  for (const Role role : kRoles) {
    PC_ASSIGN_OR_RETURN(const std::string text,
                        trial_->Answer(side(role).process.get(), "bare-down", from));
    BareUse& use = side(role).bare;
    std::istringstream(text) >> use.before >> use.connected >> use.warm >> use.after;
    std::printf(
        "%6.1f s %s: %.0f MiB of the device in use before NCCL; a communicator takes %.0f MiB once "
        "it is connected,\n         %.0f warm, and leaves %.0f behind\n",
        seconds(), std::string(RoleName(role)).c_str(), Mib(use.before),
        MibBetween(use.before, use.connected), MibBetween(use.before, use.warm),
        MibBetween(use.before, use.after));
  }
  return OkStatus();
}

Status Endurance::FirstEpoch() {
  std::array<uint64_t, 2> joined{};
  if (flags_.fill && !flags_.on_host) {
    PC_RETURN_IF_ERROR(
        trial_->Ask(side(Role::kWorker).process.get(), "fill " + std::to_string(kFillLeavesMib))
            .status());
  }
  for (const Role role : kRoles) {
    PC_RETURN_IF_ERROR(trial_->Join(side(role).process.get(), role));
    PC_ASSIGN_OR_RETURN(const Usage usage, UsageOf(role));
    joined[role == Role::kTrainer ? 0 : 1] = usage.device_bytes;
  }
  PC_RETURN_IF_ERROR(Epoch(0));
  PC_RETURN_IF_ERROR(CheckMemory());
  if (flags_.on_host) return OkStatus();
  for (const Role role : kRoles) {
    PC_RETURN_IF_ERROR(Account(role, joined[role == Role::kTrainer ? 0 : 1]));
  }
  return OkStatus();
}

// Where the device's memory is, after the first epoch.
Status Endurance::Account(Role role, uint64_t joined) {
  const BareUse& bare = side(role).bare;
  PC_ASSIGN_OR_RETURN(const Usage usage, UsageOf(role));
  uint64_t sink = 0;
  uint64_t ballast = 0;
  if (role == Role::kWorker) {
    PC_ASSIGN_OR_RETURN(const std::string held, trial_->Ask(side(role).process.get(), "held"));
    std::istringstream(held) >> sink >> ballast;
  }
  const double communicator = MibBetween(bare.after, bare.warm);
  const double seen = MibBetween(bare.after, usage.device_bytes) - Mib(sink) - Mib(ballast);
  const double extra = seen - communicator - Mib(buffer_bytes_);
  const bool is_little = extra <= kExtraMibMax;
  extra_is_little_ = extra_is_little_ && is_little;
  std::printf(
      "%6.1f s %s: after the first epoch %.0f MiB more of the device are in use than before "
      "packcast came,\n         without the sink's %.0f and %.0f of ballast; its start took %.0f; "
      "a communicator takes %.0f,\n         buffers are %.0f; beyond these: %.1f MiB, at most "
      "%.0f: "
      "%s\n",
      seconds(), std::string(RoleName(role)).c_str(), seen, Mib(sink), Mib(ballast),
      MibBetween(bare.after, joined), communicator, Mib(buffer_bytes_), extra, kExtraMibMax,
      is_little ? "good" : "TOO MUCH");
  return OkStatus();
}

Status Endurance::Epoch(int number) {
  NextStep();
  const Time begin = Now();
  const StatusOr<Value> report = trial_->Sync(side(Role::kTrainer).process.get(), ++label_);
  if (!report.ok()) return report.status().WithContext("epoch " + std::to_string(number));
  sync_ms_.push_back(1e3 * ToSeconds(Now() - begin));
  report_ = *report;
  trial_->board().Forget();
  if (NumberOf(report_, "attempt") != 1) {
    return Internal("epoch " + std::to_string(number) +
                    " took more than one attempt: " + TextOf(report_, "error"));
  }
  PC_ASSIGN_OR_RETURN(const PlanOptions plan, trial_->PlanOptionsOf(report_));
  buffer_bytes_ = plan.buffer_bytes * NumberOf(*report_.Find("contract"), "buffer_count");
  return OkStatus();
}

// The worker's memory, read back, against what its stream had.
Status Endurance::CheckMemory() {
  PC_ASSIGN_OR_RETURN(const std::string held,
                      trial_->Ask(side(Role::kWorker).process.get(), "digest"));
  const ValueArray& workers = *report_.Find("workers")->AsArray();
  if (held == TextOf(workers.front(), "digest")) return OkStatus();
  return DataLoss("the worker's memory has " + held + ", its stream had " +
                  TextOf(workers.front(), "digest"));
}

Status Endurance::ChangeBuffers() {
  const uint64_t mib = resized_++ % 2 == 0 ? flags_.other_buffer_mib : flags_.buffer_mib;
  return trial_->Control("limits", {{"buffer_bytes", mib << 20}}).status();
}

// In turns. What is new shows in the next epoch.
Status Endurance::Renegotiate() {
  NextStep();
  MemberProcess* const trainer = side(Role::kTrainer).process.get();
  const int turn = renegotiations_++ % 4;
  if (turn == 0) return ChangeBuffers();
  if (turn == 2) {
    const bool held = (cancelled_ + cancelled_late_) % 2 == 0;
    PC_ASSIGN_OR_RETURN(const bool cancelled, trial_->CancelledSync(trainer, ++label_, held));
    ++(cancelled ? cancelled_ : cancelled_late_);
    return OkStatus();
  }
  ++rejoined_;
  const Role role = turn == 1 ? Role::kWorker : Role::kTrainer;
  return trial_->Rejoin(side(role).process.get(), role);
}

Status Endurance::TakeSamples(int number) {
  NextStep();
  if (flags_.plant_leak) {
    PC_RETURN_IF_ERROR(trial_->Ask(side(Role::kWorker).process.get(), "leak").status());
  }
  for (const Role role : kRoles) {
    PC_ASSIGN_OR_RETURN(const Usage usage, UsageOf(role));
    side(role).samples.push_back({usage, flags_.on_host ? 0 : buffer_bytes_});
  }
  PC_ASSIGN_OR_RETURN(const Usage own, MeasureUsage(std::nullopt));
  own_.push_back({own, 0});
  const Usage& worker = side(Role::kWorker).samples.back().usage;
  std::printf(
      "%6.1f s epoch %d, re-negotiation %d: the worker has %.0f MiB of the device (buffers %.0f), "
      "%.0f resident, %d descriptors, %d threads\n",
      seconds(), number, renegotiations_, Mib(worker.device_bytes), Mib(buffer_bytes_),
      Mib(worker.resident_bytes), static_cast<int>(worker.descriptors),
      static_cast<int>(worker.threads));
  return OkStatus();
}

Status Endurance::Run() {
  PC_RETURN_IF_ERROR(SetUp());
  if (!flags_.on_host) PC_RETURN_IF_ERROR(MeasureBare());
  PC_RETURN_IF_ERROR(FirstEpoch());
  for (int number = 1; number <= flags_.epochs; ++number) {
    PC_RETURN_IF_ERROR(Epoch(number));
    if (number % flags_.sample_every == 0) PC_RETURN_IF_ERROR(TakeSamples(number));
    if (number % flags_.deep_every == 0) PC_RETURN_IF_ERROR(CheckMemory());
    if (number % flags_.renegotiate_every != 0) continue;
    const Status status = Renegotiate();
    if (!status.ok()) {
      return status.WithContext("re-negotiation " + std::to_string(renegotiations_));
    }
  }
  NextStep();
  return CheckMemory();
}

void Endurance::PrintTails() const {
  for (const Role role : kRoles) {
    const auto& process = side(role).process;
    const std::string tail = process == nullptr ? "" : process->Tail();
    if (tail.empty()) continue;
    std::printf("the %s wrote:\n%s", std::string(RoleName(role)).c_str(), tail.c_str());
  }
}

bool Endurance::PrintSide(const std::string& name, const std::vector<Sample>& samples,
                          bool judges_memory) const {
  struct Line {
    const char* what;
    double tolerance;
    bool is_judged;
    std::vector<double> values;
  };
  std::vector<Line> lines = {{"device MiB", 0, false, {}},
                             {"  less buffers", kDeviceToleranceMib, true, {}},
                             {"resident MiB", kResidentToleranceMib, judges_memory, {}},
                             {"descriptors", 0, true, {}},
                             {"threads", 0, true, {}},
                             {"/dev/shm files", 0, true, {}},
                             {"shared maps", 0, true, {}}};
  for (const Sample& sample : samples) {
    const Usage& usage = sample.usage;
    lines[0].values.push_back(Mib(usage.device_bytes));
    lines[1].values.push_back(MibBetween(sample.buffer_bytes, usage.device_bytes));
    lines[2].values.push_back(Mib(usage.resident_bytes));
    lines[3].values.push_back(static_cast<double>(usage.descriptors));
    lines[4].values.push_back(static_cast<double>(usage.threads));
    lines[5].values.push_back(static_cast<double>(usage.shared_files));
    lines[6].values.push_back(static_cast<double>(usage.shared_maps));
  }
  bool good = true;
  for (const Line& line : lines) {
    const Trend trend = TrendOf(line.values, line.tolerance);
    const bool leaks = line.is_judged && trend.grows;
    good = good && !leaks;
    std::printf("%-11s %-15s %10.1f %10.1f %10.1f %10.3f  %s\n", name.c_str(), line.what,
                trend.first, trend.last, trend.largest, trend.slope,
                leaks            ? "GROWS"
                : line.is_judged ? "good"
                                 : "");
  }
  return good;
}

bool Endurance::PrintSeries() const {
  std::printf(
      "\n%d re-negotiations: %d of buffers, %d of members, %d cancelled syncs (%d more came "
      "too late)\n",
      renegotiations_, resized_, rejoined_, cancelled_, cancelled_late_);
  if (!sync_ms_.empty()) {
    std::vector<double> sorted = sync_ms_;
    std::sort(sorted.begin(), sorted.end());
    std::printf("%zu committed epochs: median %.1f ms, worst %.1f, first %.0f\n", sorted.size(),
                sorted[sorted.size() / 2], sorted.back(), sync_ms_.front());
  }
  if (own_.empty()) return true;
  std::printf("\n%zu samples\n%-11s %-15s %10s %10s %10s %10s\n", own_.size(), "process", "what",
              "first", "last", "largest", "slope");
  bool good = true;
  for (const Role role : kRoles) {
    // NCCL keeps some MiB of the host's for each communicator that was aborted; without it
    // (--transport peer, --host) nothing may grow.
    const bool nccl = !flags_.on_host && (flags_.transport.empty() || flags_.transport == "nccl");
    good = PrintSide(std::string(RoleName(role)), side(role).samples, !nccl) && good;
  }
  // It keeps the reports of a thousand epochs, as it should.
  good = PrintSide("coordinator", own_, false) && good;
  return good;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("A thousand epochs with re-negotiations; nothing may leak.");
  app.add_flag("--host", flags.on_host, "weights in the host's memory: tries this program itself");
  app.add_flag("--fill", flags.fill, "leaves 1 GiB of the worker's device free beside its sink");
  app.add_option("--epochs", flags.epochs, "to run")->check(CLI::PositiveNumber);
  app.add_option("--renegotiate-every", flags.renegotiate_every, "epochs")
      ->check(CLI::PositiveNumber);
  app.add_option("--sample-every", flags.sample_every, "epochs")->check(CLI::PositiveNumber);
  app.add_option("--deep-every", flags.deep_every, "epochs until memory is read back")
      ->check(CLI::PositiveNumber);
  app.add_option("--packed-mib", flags.packed_mib, "small rows; 0: 1024, on the host 32");
  app.add_option("--direct-mib", flags.direct_mib, "large rows");
  app.add_option("--buffer-mib", flags.buffer_mib, "size of a buffer");
  app.add_option("--other-buffer-mib", flags.other_buffer_mib, "the size that it changes to");
  app.add_option("--buffers", flags.buffers, "number of buffers");
  app.add_option("--install", flags.install, "staged or in-place")
      ->check(CLI::IsMember({"staged", "in-place"}));
  app.add_option("--library", flags.library, "libnccl.so.2; the system's if empty");
  app.add_option("--transport", flags.transport, "another than nccl, peer for instance");
  app.add_option("--seconds", flags.seconds, "for all of it");
  app.add_flag("--plant-leak", flags.plant_leak, "a descriptor a sample: must be found")->group("");
  CLI11_PARSE(app, argc, argv);
  if (flags.packed_mib == 0) flags.packed_mib = flags.on_host ? 32 : 1024;
  if (flags.on_host) {  // an eighth of the weights, which is the largest that counts
    flags.buffer_mib = std::min<uint64_t>(flags.buffer_mib, 4);
    flags.other_buffer_mib = std::min<uint64_t>(flags.other_buffer_mib, 3);
  }
  Endurance endurance(flags);
  const Status status = endurance.Run();
  const bool flat = endurance.PrintSeries();
  if (!status.ok()) {
    std::printf("\nFAILED %s\n", status.ToString().c_str());
    endurance.PrintTails();
  }
  if (!endurance.extra_is_little()) std::printf("\nFAILED too much device memory\n");
  if (!flat) std::printf("\nFAILED something grows\n");
  const bool good = status.ok() && flat && endurance.extra_is_little();
  if (good) std::printf("\nall good\n");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace packcast::trial

int main(int argc, char** argv) {
  using packcast::trial::kMemberWord;
  if (argc > 1 && std::strncmp(argv[1], kMemberWord, std::strlen(kMemberWord)) == 0) {
    return packcast::trial::RunMember(argc, argv);
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return packcast::trial::Main(argc, argv);
}
