#include "tests/gpu/member_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "actors/trainer.h"
#include "actors/worker.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/failpoint_actions.h"
#include "runtime/data/cuda/device.h"
#include "tests/gpu/bare_communicator.h"
#include "tests/gpu/member_process.h"
#include "tests/gpu/trial_weights.h"
#include "tests/gpu/usage.h"

namespace packcast::trial {
namespace {

constexpr Duration kJoinTimeout = Seconds(10);
constexpr Duration kRestTimeout = Seconds(5);

struct MemberFlags {
  std::string role;
  int device = -1;  // -1: weights are in the host's memory
  std::string library;
  WeightSize size;
  int silence_ms = 900;
  bool gentle = false;
};

// All of one thread, that of Run.
class Member {
 public:
  explicit Member(MemberFlags flags) : flags_(std::move(flags)) {
    if (flags_.device >= 0) device_ = flags_.device;
  }
  int Run();

 private:
  Status Boot();
  StatusOr<std::string> Do(const std::string& verb, std::istringstream* arguments);
  StatusOr<std::string> Join(const std::string& coordinator);
  StatusOr<std::string> Leave();
  StatusOr<std::string> Sync(uint64_t label, int64_t deadline_ms);
  StatusOr<std::string> BareDown();
  Status Fill();
  void Say(const std::string& text) const;
  bool is_trainer() const { return flags_.role == "trainer"; }
  std::optional<NcclTransportOptions> DeviceOptions() const;

  const MemberFlags flags_;
  std::optional<int> device_;
  uint64_t leave_free_ = 0;                 // of the device, once the sink is bound; 0: no matter
  std::atomic<uint64_t> ballast_bytes_{0};  // of the worker's thread
  std::unique_ptr<BareCommunicator> bare_;
  std::unique_ptr<WeightSource> source_;
  std::unique_ptr<TrialSink> sink_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<Worker> worker_;
};

std::optional<NcclTransportOptions> Member::DeviceOptions() const {
  if (!device_) return std::nullopt;
  NcclTransportOptions options;
  options.device = *device_;
  options.library = flags_.library;
  return options;
}

Status Member::Boot() {
  if (device_) {
    PC_RETURN_IF_ERROR(DeviceMemory(*device_).status());
    PC_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(*device_), "choosing the device"));
    // Loads libnccl and the kernels, which a process that is started ahead has behind it then.
    PC_RETURN_IF_ERROR(MakeNcclTransport(*DeviceOptions()).status());
  }
  if (is_trainer()) {
    PC_ASSIGN_OR_RETURN(source_, MakeTrialSource(flags_.size, device_));
    return OkStatus();
  }
  TrialSink::Options options;
  if (device_) options.memory = DeviceAllocator(*device_);
  options.by_callback = !device_;
  options.after_bind = [this] { return Fill(); };
  sink_ = std::make_unique<TrialSink>(std::move(options));
  return OkStatus();
}

// On the thread that drives the worker, before the first communicator of the cluster.
Status Member::Fill() {
  if (leave_free_ == 0 || ballast_bytes_ > 0) return OkStatus();
  PC_ASSIGN_OR_RETURN(const uint64_t free, FreeDeviceMemory(*device_));
  if (free <= leave_free_) return ResourceExhausted("the device is fuller than it should be");
  // For as long as the process lives.
  PC_RETURN_IF_ERROR(DeviceAllocator(*device_)->Allocate(free - leave_free_).status());
  ballast_bytes_ = free - leave_free_;
  return OkStatus();
}

StatusOr<std::string> Member::Join(const std::string& coordinator) {
  if (runtime_ == nullptr) {
    Runtime::Options options;
    options.name = flags_.role;
    options.unreachable_after = Milliseconds(flags_.silence_ms);
    options.suspect_after = Milliseconds(flags_.silence_ms / 2);
    PC_ASSIGN_OR_RETURN(runtime_, Runtime::Start(options));
  }
  if (is_trainer()) {
    TrainerOptions options;
    options.name = "trainer-0";
    options.coordinator = coordinator;
    options.device = DeviceOptions();
    PC_ASSIGN_OR_RETURN(trainer_,
                        Trainer::Start(runtime_.get(), options, source_.get(), kJoinTimeout));
    return std::string();
  }
  WorkerOptions options;
  options.name = "worker-0";
  options.replica = "replica-0";
  options.coordinator = coordinator;
  options.device = DeviceOptions();
  options.gentle = flags_.gentle;
  options.own_thread = true;
  PC_ASSIGN_OR_RETURN(worker_, Worker::Start(runtime_.get(), options, sink_.get(), kJoinTimeout));
  return std::string();
}

StatusOr<std::string> Member::Leave() {
  trainer_.reset();
  worker_.reset();
  return std::string();
}

StatusOr<std::string> Member::Sync(uint64_t label, int64_t deadline_ms) {
  if (trainer_ == nullptr) return FailedPrecondition("no trainer is in a cluster here");
  PC_RETURN_IF_ERROR(trainer_->Sync(label, Milliseconds(deadline_ms)).status);
  return std::string();
}

StatusOr<std::string> Member::BareDown() {
  if (bare_ == nullptr) return FailedPrecondition("no bare communicator is up");
  PC_ASSIGN_OR_RETURN(const BareUse use, bare_->Down());
  return std::to_string(use.before) + " " + std::to_string(use.connected) + " " +
         std::to_string(use.warm) + " " + std::to_string(use.after);
}

StatusOr<std::string> Member::Do(const std::string& verb, std::istringstream* arguments) {
  std::string text;
  uint64_t number = 0;
  int64_t more = 0;
  if (verb == "join" && *arguments >> text) return Join(text);
  if (verb == "leave") return Leave();
  if (verb == "sync" && *arguments >> number >> more) return Sync(number, more);
  if (verb == "arm") {
    *arguments >> text;
    PC_RETURN_IF_ERROR(SetFailpoints(text));
    return std::string();
  }
  if (verb == "digest" && sink_ != nullptr) {
    PC_ASSIGN_OR_RETURN(const Digest digest, sink_->DigestAtRest(kRestTimeout));
    return ToHex(digest);
  }
  if (verb == "usage") {
    PC_ASSIGN_OR_RETURN(const Usage usage, MeasureUsage(device_));
    return UsageText(usage);
  }
  if (verb == "held" && sink_ != nullptr) {
    return std::to_string(sink_->held_bytes()) + " " + std::to_string(ballast_bytes_);
  }
  if (verb == "fill" && *arguments >> number) {
    leave_free_ = number << 20;
    return std::string();
  }
  if (verb == "bare-up" && device_ && *arguments >> text >> more) {
    bare_ = std::make_unique<BareCommunicator>(flags_.library, *device_);
    PC_RETURN_IF_ERROR(bare_->Up(text, static_cast<int>(more)));
    return std::string();
  }
  if (verb == "bare-down") return BareDown();
  if (verb == "leak") return std::to_string(open("/dev/null", O_RDONLY | O_CLOEXEC));
  return Unimplemented("no such command");
}

void Member::Say(const std::string& text) const {
  (void)send(kChannelFd, text.data(), std::min(text.size(), kChannelBytes), MSG_NOSIGNAL);
}

int Member::Run() {
  if (const Status booted = Boot(); !booted.ok()) {
    Say("ready error " + booted.ToString());
    return 1;
  }
  Say("ready ok");
  std::string command(kChannelBytes, '\0');
  while (true) {
    const ssize_t got = recv(kChannelFd, command.data(), command.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    std::istringstream arguments(command.substr(0, static_cast<size_t>(got)));
    std::string verb;
    arguments >> verb;
    const StatusOr<std::string> answer = Do(verb, &arguments);
    Say(verb + (answer.ok() ? " ok " + *answer : " error " + answer.status().ToString()));
  }
}

}  // namespace

int RunMember(int argc, char** argv) {
  // Also when it was stopped. The supervisor's thread that started it outlives it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  MemberFlags flags;
  CLI::App app("A member of a trial.");
  app.add_option(kMemberWord, flags.role);
  app.add_option("--device", flags.device);
  app.add_option("--library", flags.library);
  app.add_option("--packed-mib", flags.size.packed_mib);
  app.add_option("--direct-mib", flags.size.direct_mib);
  app.add_option("--silence-ms", flags.silence_ms);
  app.add_flag("--gentle", flags.gentle);
  CLI11_PARSE(app, argc, argv);
  return Member(std::move(flags)).Run();
}

}  // namespace packcast::trial
