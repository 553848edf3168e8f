#include "runtime/data/cuda/nccl_wire.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/failpoint.h"
#include "runtime/data/cuda/device.h"

namespace packcast {
namespace {

// Broadcasts of a new communicator, so that all it needs is connected, allocated and loaded: one
// for each of NCCL's protocols.
constexpr uint64_t kWarmUpBytes[] = {1024, uint64_t{64} << 10, uint64_t{4} << 20};

// The rules of NCCL that this class is made of are in docs/performance.md, with their reasons: a
// non-blocking communicator is asked until it has left InProgress before anything else is done
// with it, events included; Abort is called by a thread that does nothing else, when no thread is
// inside NCCL.
class NcclWire final : public Wire {
 public:
  NcclWire(const NcclLibrary* library, const NcclTransportOptions& transport,
           const JoinOptions& join, std::unique_ptr<NcclId> helper)
      : library_(library),
        transport_(transport),
        join_(join),
        helper_(std::move(helper)),
        memory_(NcclMemory::Of(transport.device)),
        abort_thread_([this] { AbortLoop(); }) {}
  ~NcclWire() override;

  Status Init(const ncclUniqueId& id);
  StatusOr<bool> Up() override;
  Status Launch(const Operation& operation) override;
  StatusOr<uint64_t> Completed() override;
  Status Abort() override;
  void BeginAbort() override;

 private:
  enum class State { kConnecting, kWarming, kUp };
  struct Broadcast {
    std::vector<Span> spans;
    std::vector<void*> ready;  // cudaEvent_t that come first
  };

  Status Fail(Status status);
  Status Advance();
  StatusOr<bool> IsInProgress();
  Status Enqueue(const Broadcast& broadcast);
  Status StartNext();
  StatusOr<cudaEvent_t> TakeEvent();
  void AbortLoop();
  Status StopStream();

  const NcclLibrary* const library_;
  const NcclTransportOptions transport_;
  const JoinOptions join_;
  std::unique_ptr<NcclId> helper_;
  NcclMemory* const memory_;
  uint64_t free_before_ = 0;  // of the device, before the communicator
  bool is_counted_ = false;   // in memory_->live

  // The data thread's.
  State state_ = State::kConnecting;
  cudaStream_t stream_ = nullptr;
  void* scratch_ = nullptr;
  std::deque<Broadcast> waiting_;  // launched, not yet handed to NCCL
  bool enqueuing_ = false;         // NCCL is still taking one in: no event yet
  std::deque<cudaEvent_t> running_;
  std::vector<cudaEvent_t> events_;  // not in use
  uint64_t completed_ = 0;
  Status error_;

  // Held while a thread is inside NCCL. Timed: a thread that never comes out makes us wedged, it
  // does not make us wait.
  std::timed_mutex nccl_mutex_;
  ncclComm_t comm_ = nullptr;

  std::mutex abort_mutex_;
  std::condition_variable abort_changed_;
  bool abort_asked_ = false;
  bool abort_done_ = false;
  Status abort_status_;
  std::thread abort_thread_;  // last
};

NcclWire::~NcclWire() {
  (void)Abort();  // which ends the thread
  abort_thread_.join();
  if (is_counted_) --memory_->live;
  const ScopedDevice scoped(transport_.device);
  for (cudaEvent_t event : running_) (void)cudaEventDestroy(event);
  for (cudaEvent_t event : events_) (void)cudaEventDestroy(event);
  // A stream that did not stop keeps what it uses: freeing would wait for it.
  if (!abort_status_.ok()) return;
  if (scratch_ != nullptr) (void)cudaFree(scratch_);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

Status NcclWire::Fail(Status status) {
  if (error_.ok()) error_ = std::move(status);
  return error_;
}

Status NcclWire::Init(const ncclUniqueId& id) {
  PC_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(transport_.device), "choosing the device"));
  // Before the copy kernels, where there is a choice: they keep up with the wire in any case.
  int least = 0;
  int greatest = 0;
  PC_RETURN_IF_ERROR(
      CudaStatus(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities"));
  PC_RETURN_IF_ERROR(CudaStatus(
      cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "making a stream"));
  PC_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&scratch_, kWarmUpBytes[std::size(kWarmUpBytes) - 1]),
                                "memory to warm up with"));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  if (join_.cta_count_max > 0) config.maxCTAs = static_cast<int>(join_.cta_count_max);
  PC_ASSIGN_OR_RETURN(free_before_, FreeDeviceMemory(transport_.device));
  {
    std::lock_guard lock(nccl_mutex_);
    PC_RETURN_IF_ERROR(NcclStatus(*library_,
                                  library_->init_rank(&comm_, static_cast<int>(join_.size), id,
                                                      static_cast<int>(join_.rank), &config),
                                  comm_, "connecting"));
  }
  return Failpoint("nccl.init");
}

// Whether NCCL is still busy with what it was given last.
StatusOr<bool> NcclWire::IsInProgress() {
  std::unique_lock lock(nccl_mutex_, std::try_to_lock);
  if (!lock.owns_lock() || comm_ == nullptr) return Aborted("the communicator was aborted");
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = library_->async_error(comm_, &state);
  PC_RETURN_IF_ERROR(NcclStatus(*library_, asked, comm_, "asking for its state"));
  PC_RETURN_IF_ERROR(NcclStatus(*library_, state, comm_, "broadcasting"));
  return state == ncclInProgress;
}

Status NcclWire::Enqueue(const Broadcast& broadcast) {
  std::unique_lock lock(nccl_mutex_, std::try_to_lock);
  if (!lock.owns_lock() || comm_ == nullptr) return Aborted("the communicator was aborted");
  const std::string what = "starting a broadcast";
  for (void* event : broadcast.ready) {
    PC_RETURN_IF_ERROR(
        CudaStatus(cudaStreamWaitEvent(stream_, static_cast<cudaEvent_t>(event), 0), what));
  }
  PC_RETURN_IF_ERROR(NcclStatus(*library_, library_->group_start(), comm_, what));
  // A group that is begun is ended, whatever fails in it: it belongs to the thread, and would take
  // the next communicator's calls in.
  Status status;
  for (const Span& span : broadcast.spans) {
    if (!status.ok()) break;
    status = NcclStatus(*library_,
                        library_->broadcast(span.data, span.data, span.bytes, ncclUint8,
                                            static_cast<int>(join_.root), comm_, stream_),
                        comm_, what);
  }
  if (status.ok() && state_ == State::kUp) status = Failpoint("nccl.enqueue");
  const ncclResult_t ended = library_->group_end();
  PC_RETURN_IF_ERROR(status);
  PC_RETURN_IF_ERROR(NcclStatus(*library_, ended, comm_, what));
  enqueuing_ = true;
  return state_ == State::kWarming ? Failpoint("nccl.warmup") : OkStatus();
}

StatusOr<cudaEvent_t> NcclWire::TakeEvent() {
  if (!events_.empty()) {
    cudaEvent_t event = events_.back();
    events_.pop_back();
    return event;
  }
  cudaEvent_t event = nullptr;
  PC_RETURN_IF_ERROR(
      CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"));
  return event;
}

// An event recorded while NCCL is still taking the operation in would fire too early.
Status NcclWire::StartNext() {
  if (enqueuing_) {
    PC_ASSIGN_OR_RETURN(const bool busy, IsInProgress());
    if (busy) return OkStatus();
    PC_ASSIGN_OR_RETURN(cudaEvent_t event, TakeEvent());
    running_.push_back(event);
    enqueuing_ = false;
    PC_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(event, stream_), "marking a broadcast"));
    if (state_ == State::kUp) PC_RETURN_IF_ERROR(Failpoint("nccl.wire"));
  }
  if (waiting_.empty()) return OkStatus();
  PC_RETURN_IF_ERROR(Enqueue(waiting_.front()));
  waiting_.pop_front();
  return OkStatus();
}

Status NcclWire::Advance() {
  if (!error_.ok()) return error_;
  if (const Status started = StartNext(); !started.ok()) return Fail(started);
  while (!running_.empty()) {
    const cudaError_t state = cudaEventQuery(running_.front());
    if (state == cudaErrorNotReady) break;
    if (state != cudaSuccess) return Fail(CudaStatus(state, "broadcasting"));
    events_.push_back(running_.front());
    running_.pop_front();
    ++completed_;
  }
  return OkStatus();
}

StatusOr<bool> NcclWire::Up() {
  if (!error_.ok()) return error_;
  if (state_ == State::kUp) return true;
  if (state_ == State::kConnecting) {
    const StatusOr<bool> busy = IsInProgress();
    if (!busy.ok()) return Fail(busy.status());
    if (*busy) return false;
    PC_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(transport_.device), "choosing the device"));
    for (uint64_t bytes : kWarmUpBytes) {
      waiting_.push_back({{{static_cast<std::byte*>(scratch_), bytes}}, {}});
    }
    state_ = State::kWarming;
  }
  PC_RETURN_IF_ERROR(Advance());
  if (completed_ < std::size(kWarmUpBytes)) return false;
  completed_ = 0;
  state_ = State::kUp;
  const StatusOr<uint64_t> free = FreeDeviceMemory(transport_.device);
  // Whatever else allocates meanwhile is counted in; more than this was never NCCL.
  constexpr uint64_t kMost = uint64_t{2} << 30;
  if (free.ok() && *free < free_before_) {
    memory_->bytes = std::min(free_before_ - *free, kMost);
  }
  ++memory_->live;
  is_counted_ = true;
  helper_.reset();
  // The scratch stays: cudaFree waits for all of the device, other collectives included.
  return true;
}

Status NcclWire::Launch(const Operation& operation) {
  if (!error_.ok()) return error_;
  waiting_.push_back({operation.spans, operation.ready});
  return Advance();
}

StatusOr<uint64_t> NcclWire::Completed() {
  PC_RETURN_IF_ERROR(Advance());
  return completed_;
}

void NcclWire::BeginAbort() {
  std::lock_guard lock(abort_mutex_);
  abort_asked_ = true;
  abort_changed_.notify_all();
}

Status NcclWire::Abort() {
  std::unique_lock lock(abort_mutex_);
  abort_asked_ = true;
  abort_changed_.notify_all();
  // The thread has deadlines of its own, for two waits.
  abort_changed_.wait_for(lock, 3 * transport_.abort_timeout, [this] { return abort_done_; });
  if (!abort_done_) {
    return DeadlineExceeded("aborting NCCL on device " + std::to_string(transport_.device) +
                            " has not returned");
  }
  return abort_status_;
}

// Calls nothing of CUDA but what an abort needs: the data thread may hang in a CUDA call that ends
// only once the communicator is aborted.
void NcclWire::AbortLoop() {
  std::unique_lock lock(abort_mutex_);
  abort_changed_.wait(lock, [this] { return abort_asked_; });
  lock.unlock();
  Status status;
  {
    std::unique_lock nccl(nccl_mutex_, transport_.abort_timeout);
    if (!nccl.owns_lock()) {
      status = DeadlineExceeded("a thread is stuck inside NCCL");
    } else if (comm_ != nullptr) {
      const ncclResult_t aborted = library_->abort(std::exchange(comm_, nullptr));
      status = NcclStatus(*library_, aborted, nullptr, "aborting");
    }
  }
  if (status.ok()) status = StopStream();
  lock.lock();
  abort_status_ = status;
  abort_done_ = true;
  abort_changed_.notify_all();
}

// S9: nothing of this generation is left on the stream.
Status NcclWire::StopStream() {
  if (stream_ == nullptr) return OkStatus();
  return DrainStream(transport_.device, stream_, transport_.abort_timeout,
                     "what was broadcast before an abort");
}

}  // namespace

NcclMemory* NcclMemory::Of(int device) {
  static std::mutex mutex;
  static auto* memories = new std::map<int, NcclMemory>;
  std::lock_guard lock(mutex);
  return &(*memories)[device];
}

StatusOr<std::unique_ptr<Wire>> MakeNcclWire(const NcclLibrary* library,
                                             const NcclTransportOptions& transport,
                                             const JoinOptions& join, const ncclUniqueId& id,
                                             std::unique_ptr<NcclId> helper) {
  auto wire = std::make_unique<NcclWire>(library, transport, join, std::move(helper));
  PC_RETURN_IF_ERROR(wire->Init(id));
  return std::unique_ptr<Wire>(std::move(wire));
}

}  // namespace packcast
