// Two ranks in host memory, with twins of what a GPU does: copy engines and wires that wait for
// events, a stream that is a thread.

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/span_cursor.h"
#include "runtime/data/wire.h"
#include "runtime/data/zmq_collective.h"
#include "tests/gpu/world.h"

namespace packcast::testing {
namespace {

// As a cudaEvent_t: who waits for it waits for the last Record before.
struct HostEvent {
  std::atomic<uint64_t> recorded{0};
  std::atomic<uint64_t> fired{0};
};

class EventWait {
 public:
  explicit EventWait(void* event) : event_(static_cast<HostEvent*>(event)) {
    if (event_ != nullptr) count_ = event_->recorded.load();
  }
  bool fired() const { return event_ == nullptr || event_->fired.load() >= count_; }

 private:
  HostEvent* event_;
  uint64_t count_ = 0;
};

class ThreadStream final : public CallerStream {
 public:
  ThreadStream() : thread_([this] { Loop(); }) {}
  ~ThreadStream() override {
    {
      std::lock_guard lock(mutex_);
      opened_ = gates_;
      over_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  void AddGate() override {
    Add([this, needed = ++gates_] {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this, needed] { return opened_ >= needed; });
    });
  }
  void OpenGate() override {
    std::lock_guard lock(mutex_);
    ++opened_;
    changed_.notify_all();
  }
  void SlowCopy(const std::byte* from, std::byte* to, uint64_t bytes, Duration spin) override {
    Add([=] {
      for (const Time end = Now() + spin; Now() < end;) std::this_thread::yield();
      if (bytes > 0) std::memcpy(to, from, bytes);
    });
  }
  void Fill(std::byte* data, uint64_t bytes, std::byte value) override {
    Add([=] { std::fill_n(data, bytes, value); });
  }
  void* MakeEvent() override { return &events_.emplace_back(); }
  void Record(void* event) override {
    auto* const host = static_cast<HostEvent*>(event);
    const uint64_t count = host->recorded.fetch_add(1) + 1;
    Add([host, count] { host->fired.store(count); });
  }
  void Synchronize() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return works_.empty() && !busy_; });
  }

 private:
  void Add(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    works_.push_back(std::move(work));
    changed_.notify_all();
  }
  void Loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return over_ || !works_.empty(); });
      if (works_.empty()) return;
      const std::function<void()> work = std::move(works_.front());
      works_.pop_front();
      busy_ = true;
      lock.unlock();
      work();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::deque<HostEvent> events_;
  uint64_t gates_ = 0;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::function<void()>> works_;
  uint64_t opened_ = 0;
  bool busy_ = false;
  bool over_ = false;
  std::thread thread_;  // last
};

// A copy engine whose work waits for its events, in order, as on one stream.
class EventEngine final : public CopyEngine {
 public:
  Allocator* allocator() override { return inner_->allocator(); }
  uint32_t pieces_max() const override { return inner_->pieces_max(); }
  uint32_t layouts_max() const override { return inner_->layouts_max(); }
  bool HasRoom() const override { return held_.size() + started_.size() < 8; }

  StatusOr<Ticket> Submit(std::span<const CopyPiece> pieces, std::span<const PieceLayout> layouts,
                          void* ready, bool) override {
    if (!HasRoom()) return ResourceExhausted("too much copy work is under way");
    held_.push_back({++last_,
                     EventWait(ready),
                     {pieces.begin(), pieces.end()},
                     {layouts.begin(), layouts.end()}});
    PC_RETURN_IF_ERROR(Start());
    return last_;
  }
  StatusOr<bool> Done(Ticket ticket) override {
    PC_RETURN_IF_ERROR(Start());
    const auto found = started_.find(ticket);
    return found == started_.end() ? StatusOr<bool>(false) : inner_->Done(found->second);
  }
  StatusOr<bool> HasFired(void* event) override { return EventWait(event).fired(); }
  std::span<const Digest> digests(Ticket ticket) const override {
    return inner_->digests(started_.at(ticket));
  }
  void Forget(Ticket ticket) override {
    inner_->Forget(started_.at(ticket));
    started_.erase(ticket);
  }
  Status Drain(Duration timeout) override {
    held_.clear();
    started_.clear();
    return inner_->Drain(timeout);
  }

 private:
  struct Held {
    Ticket ticket = 0;
    EventWait wait;
    std::vector<CopyPiece> pieces;
    std::vector<PieceLayout> layouts;
  };
  Status Start() {
    for (; !held_.empty() && held_.front().wait.fired(); held_.pop_front()) {
      const Held& first = held_.front();
      PC_ASSIGN_OR_RETURN(started_[first.ticket],
                          inner_->Submit(first.pieces, first.layouts, nullptr));
    }
    return OkStatus();
  }

  const std::unique_ptr<CopyEngine> inner_ = MakeHostCopyEngine();
  std::deque<Held> held_;
  std::map<Ticket, Ticket> started_;  // ours to the inner one's
  Ticket last_ = 0;
};

// What two ends of a wire share. An operation arrives when both have launched it and its events
// have fired.
class Cable {
 public:
  void Send(const Operation& operation) {
    std::lock_guard lock(mutex_);
    Sent sent{operation.spans, {}};
    for (void* event : operation.ready) sent.waits.emplace_back(event);
    sent_.push_back(std::move(sent));
  }
  void Receive(const Operation& operation) {
    std::lock_guard lock(mutex_);
    received_.push_back(operation.spans);
  }
  // Nothing is copied once an end has given up.
  StatusOr<uint64_t> Arrived(bool root) {
    std::lock_guard lock(mutex_);
    if (aborted_[root]) return Aborted("this end of the wire was aborted");
    while (!aborted_[!root] && !sent_.empty() && !received_.empty() && sent_.front().HasFired()) {
      Copy(SpanCursor(sent_.front().spans), SpanCursor(received_.front()));
      sent_.pop_front();
      received_.pop_front();
      ++arrived_;
    }
    return arrived_;
  }
  void Abort(bool root) {
    std::lock_guard lock(mutex_);
    aborted_[root] = true;
  }

 private:
  struct Sent {
    std::vector<Span> spans;
    std::vector<EventWait> waits;
    bool HasFired() const {
      for (const EventWait& wait : waits) {
        if (!wait.fired()) return false;
      }
      return true;
    }
  };
  static void Copy(SpanCursor from, SpanCursor to) {
    while (!from.at_end() && !to.at_end()) {
      const uint64_t part = std::min(from.room(), to.room());
      std::memcpy(to.data(), from.data(), part);
      from.Advance(part);
      to.Advance(part);
    }
  }

  std::mutex mutex_;
  std::deque<Sent> sent_;
  std::deque<std::vector<Span>> received_;
  uint64_t arrived_ = 0;
  std::array<bool, 2> aborted_{};  // member, root
};

class CableWire final : public Wire {
 public:
  CableWire(std::shared_ptr<Cable> cable, bool root) : cable_(std::move(cable)), root_(root) {}
  StatusOr<bool> Up() override { return true; }
  Status Launch(const Operation& operation) override {
    if (root_) {
      cable_->Send(operation);
    } else {
      cable_->Receive(operation);
    }
    return OkStatus();
  }
  StatusOr<uint64_t> Completed() override { return cable_->Arrived(root_); }
  Status Abort() override {
    cable_->Abort(root_);
    return OkStatus();
  }
  void BeginAbort() override { cable_->Abort(root_); }

 private:
  const std::shared_ptr<Cable> cable_;
  const bool root_;
};

// Words over ZeroMQ, bytes over a cable: the transport of both ranks.
class CableTransport final : public Transport {
 public:
  std::string_view kind() const override { return words_->kind(); }
  StatusOr<Rendezvous> MakeRendezvous(GenerationId generation) override {
    std::lock_guard lock(mutex_);
    cables_[generation] = std::make_shared<Cable>();
    return words_->MakeRendezvous(generation);
  }
  StatusOr<std::unique_ptr<Collective>> Join(const JoinOptions& options) override {
    PC_ASSIGN_OR_RETURN(std::unique_ptr<Collective> words, words_->Join(options));
    std::lock_guard lock(mutex_);
    return MakeWiredCollective(
        options, std::move(words),
        std::make_unique<CableWire>(cables_.at(options.generation), options.rank == options.root));
  }
  void Forget(GenerationId generation) override { words_->Forget(generation); }

 private:
  static ZmqTransportOptions Options() {
    ZmqTransportOptions options;
    options.bytes_elsewhere = true;
    return options;
  }
  const std::unique_ptr<Transport> words_ = MakeZmqTransport(Options()).value();
  std::mutex mutex_;
  std::map<GenerationId, std::shared_ptr<Cable>> cables_;
};

class HostWorld final : public World {
 public:
  std::string Describe() const override { return "host memory and CPU twins"; }
  void Enter(uint32_t) override {}
  Transport* transport(uint32_t) override { return &transport_; }
  CopyEngine* engine(uint32_t rank) override { return &engines_[rank]; }
  std::unique_ptr<CallerStream> MakeStream(uint32_t) override {
    return std::make_unique<ThreadStream>();
  }

 private:
  CableTransport transport_;
  std::array<EventEngine, 2> engines_;
};

}  // namespace

StatusOr<std::unique_ptr<World>> MakeWorld() {
  return std::unique_ptr<World>(std::make_unique<HostWorld>());
}

}  // namespace packcast::testing
