#include <algorithm>
#include <cstring>
#include <deque>

#include "runtime/base/clock.h"
#include "runtime/data/span_cursor.h"
#include "runtime/data/stream_ledger.h"
#include "runtime/data/zmq_end.h"

namespace packcast::zmq_bulk {
namespace {

// Chunks copied in one Poll: the consumer unpacks in between.
constexpr int kMessagesPerPump = 16;
// How often an idle member looks whether its connection still stands, and after how many probes
// without a word from the root it does so more rarely: a root that is stopped (or whose source
// waits) reads nothing, and probes must never be what fills the queue.
constexpr Duration kProbeInterval = Milliseconds(20);
constexpr Duration kProbeIntervalSlow = Seconds(1);
constexpr uint32_t kProbesAtOnce = 20;
constexpr uint32_t kProbesMax = 500;
// How long a member that aborts goes on reading, so that its reason gets through: a connection
// that is closed with unread bytes is reset, and takes the reason with it.
constexpr Duration kAbortDrain = Milliseconds(100);

// A member's end: a DEALER that receives chunks and copies them to where the launched operations
// want them. A chunk of an operation that is not launched yet stays in `held_`, and with it
// everything behind it in the socket: that is the back-pressure.
class ZmqMember final : public ZmqEnd {
 public:
  ZmqMember(const JoinOptions& options, const ZmqTransportOptions& transport, net::ZmqSocket socket,
            const Digest& token)
      : ZmqEnd(options, transport, std::move(socket), token), ledger_(Describe(rank())) {}

  ~ZmqMember() override {
    {
      Lock lock(mutex_);
      if (Check().ok() && ledger_.IsQuiet()) {
        SendQueued();
        socket_.Close();
        return;
      }
    }
    (void)Abort("its collective was destroyed");
  }

  StatusOr<bool> Joined() override;
  Status Begin(const StreamId& stream) override;
  Status Grant(Sequence sequence) override;
  StatusOr<bool> Ready(Sequence sequence) override;
  std::string NextNote() override {
    Lock lock(mutex_);
    return ledger_.NextNote();
  }
  Status Launch(Operation operation) override;
  StatusOr<bool> Done(Sequence sequence) override;
  Status Release(Sequence sequence) override;
  StatusOr<std::optional<StepSeal>> SealOf(Sequence sequence) override;
  StatusOr<std::optional<uint64_t>> EndOf() override;
  Status Finish() override;

  StatusOr<bool> Flushed() override;

  Status Seal(Sequence, const StepSeal&) override { return NotRoot(); }
  Status End(uint64_t) override { return NotRoot(); }
  StatusOr<bool> Finished() override { return NotRoot(); }

 private:
  struct Receiving {
    Operation operation;
    SpanCursor to;
  };

  static Status NotRoot() { return FailedPrecondition("only the root does this"); }
  StatusOr<bool> Pump() override;
  bool wants_input() const override { return held_.empty(); }
  Duration longest_sleep() const override {
    return joined_ && outbox_.empty() ? kProbeInterval : Milliseconds(5);
  }
  void SendAbort(const std::string& reason) override;
  Status WaitForRelease() override { return OkStatus(); }
  std::string WaitingForLocked() override;

  void Queue(const Header& header) { outbox_.push_back(EncodeHeader(header)); }
  bool SendQueued();
  void QueueGranted() {
    Queue({.type = Type::kGranted,
           .extra = static_cast<uint32_t>(ledger_.released()),  // limits::kPlanSteps fits
           .tag = tag_,
           .sequence = ledger_.granted(),
           .a = stream_.plan_digest.hi,
           .b = stream_.plan_digest.lo});
  }
  Status Handle(net::Frames* frames);
  Status HandleChunk(const Header& header, net::Frames* frames);
  Status HandleGate(const Header& header, net::Frames* frames);
  Status HandleSeal(const Header& header, net::Frames* frames);
  Status CheckConnected();

  MemberLedger ledger_;
  StreamId stream_;
  Digest tag_;
  bool hello_sent_ = false;
  bool root_aborted_ = false;       // and said so: it needs no reason of ours, and confirms none
  std::deque<std::string> outbox_;  // one per grant, release, ping and stream, at most
  std::deque<Receiving> operations_;
  net::Frames held_;
  Time next_probe_{};
  uint32_t probes_out_ = 0;  // since the root's last message
};

StatusOr<bool> ZmqMember::Joined() {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  if (joined_) return true;
  const StatusOr<bool> pumped = Pump();
  if (!pumped.ok()) return Fail(pumped.status());
  if (joined_ || Now() < options().deadline) return joined_;
  return Fail(DeadlineExceeded(Describe(rank()) + " has not heard from " + Describe(root())));
}

Status ZmqMember::Begin(const StreamId& stream) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.Begin());
  stream_ = stream;
  tag_ = StreamTag(stream);
  held_.clear();  // of the last stream
  progress_.launched = 0;
  progress_.completed = 0;
  progress_.bytes = 0;
  QueueGranted();
  return OkStatus();
}

Status ZmqMember::Grant(Sequence sequence) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.CheckGrant(sequence));
  ledger_.Granted();
  QueueGranted();
  SendQueued();
  return OkStatus();
}

StatusOr<bool> ZmqMember::Ready(Sequence sequence) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return ledger_.Ready(sequence);
}

Status ZmqMember::Launch(Operation operation) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  bool fatal = false;
  const Status status = ledger_.CheckLaunch(operation, &fatal);
  if (!status.ok()) return fatal ? Fail(status) : status;
  ledger_.Launched();
  progress_.launched.fetch_add(1);
  if (transport_.bytes_elsewhere) {
    ledger_.Completed();
    progress_.bytes.fetch_add(operation.bytes());
    progress_.completed.fetch_add(1);
    return OkStatus();
  }
  const SpanCursor to(operation.spans);
  operations_.push_back({std::move(operation), to});
  return OkStatus();
}

StatusOr<bool> ZmqMember::Done(Sequence sequence) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return sequence.value < ledger_.completed();
}

Status ZmqMember::Release(Sequence sequence) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.CheckRelease(sequence));
  ledger_.Released();
  QueueGranted();
  SendQueued();
  return OkStatus();
}

StatusOr<std::optional<StepSeal>> ZmqMember::SealOf(Sequence sequence) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return ledger_.SealOf(sequence);
}

StatusOr<std::optional<uint64_t>> ZmqMember::EndOf() {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return ledger_.end();
}

Status ZmqMember::Finish() {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.Finish());
  Queue({.type = Type::kFinished, .tag = tag_});
  SendQueued();
  return OkStatus();
}

StatusOr<bool> ZmqMember::Flushed() {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return outbox_.empty();
}

bool ZmqMember::SendQueued() {
  bool sent = false;
  while (!outbox_.empty()) {
    net::Frames frames;
    frames.emplace_back(std::string_view(outbox_.front()));
    if (socket_.Send(&frames) != net::SendResult::kSent) break;
    outbox_.pop_front();
    sent = true;
  }
  return sent;
}

StatusOr<bool> ZmqMember::Pump() {
  if (!hello_sent_) {
    net::Frames frames;
    frames.emplace_back(std::string_view(EncodeHeader({.type = Type::kHello,
                                                       .extra = rank(),
                                                       .tag = token_,
                                                       .sequence = options().generation.value,
                                                       .a = size(),
                                                       .b = root()})));
    hello_sent_ = socket_.Send(&frames) == net::SendResult::kSent;
    if (!hello_sent_) return false;
  }
  bool progress = SendQueued();
  for (int k = 0; k < kMessagesPerPump; ++k) {
    if (held_.empty()) {
      const net::ReceiveResult received = socket_.Receive(&held_);
      if (received == net::ReceiveResult::kEmpty) {
        // Everything that the root ever sent was taken, so a lost connection matters now.
        PC_RETURN_IF_ERROR(CheckConnected());
        break;
      }
      if (received != net::ReceiveResult::kMessage) return Internal("the bulk socket failed");
      probes_out_ = 0;
    }
    PC_RETURN_IF_ERROR(Handle(&held_));
    if (!held_.empty()) break;
    progress = true;
  }
  if (SendQueued()) progress = true;
  return progress;
}

// A DEALER whose one connection is gone cannot send: an unasked kPong finds that out. Its queue is
// never full: the root answers for that by reading, and who does not read gets few of them. The
// root is needed until it has our Finished: its End may well be here before the last bytes.
Status ZmqMember::CheckConnected() {
  const bool needed = !joined_ || (ledger_.begun() && !(ledger_.finished() && outbox_.empty()));
  if (!needed || probes_out_ >= kProbesMax || Now() < next_probe_) return OkStatus();
  next_probe_ = Now() + (probes_out_ < kProbesAtOnce ? kProbeInterval : kProbeIntervalSlow);
  net::Frames frames;
  frames.emplace_back(std::string_view(EncodeHeader({.type = Type::kPong})));
  if (socket_.Send(&frames) == net::SendResult::kSent) {
    ++probes_out_;
    return OkStatus();
  }
  if (socket_.can_receive()) return OkStatus();
  return Blame(root(), Unavailable(Describe(root()) + ", the root, closed the connection; " +
                                   Describe(rank()) + " waited for " + WaitingForLocked()));
}

// Leaves `frames` as they are when they must wait.
Status ZmqMember::Handle(net::Frames* frames) {
  Header header;
  if (!DecodeHeader((*frames)[0].bytes(), &header)) {
    return Blame(root(), Internal("malformed bulk message from " + Describe(root())));
  }
  if (header.type == Type::kAbort) {
    const std::string reason =
        frames->size() > 1 ? std::string((*frames)[1].view().substr(0, kReasonBytesMax)) : "";
    root_aborted_ = true;
    return Aborted(Describe(root()) + " aborted the collective: " + reason);
  }
  if (header.type == Type::kWelcome) joined_ = true;
  if (header.type == Type::kPing) Queue({.type = Type::kPong});
  const bool current = ledger_.begun() && header.tag == tag_;
  if (header.type == Type::kChunk && current) return HandleChunk(header, frames);
  if (header.type == Type::kSeal && current) return HandleSeal(header, frames);
  if (header.type == Type::kGate && current) return HandleGate(header, frames);
  frames->clear();
  if (!current) return OkStatus();
  switch (header.type) {
    case Type::kBegin: QueueGranted(); break;
    case Type::kEnd: return Blame(root(), ledger_.OnEnd(header.sequence));
    case Type::kHello:
    case Type::kWelcome:
    case Type::kGranted:
    case Type::kGate:
    case Type::kChunk:
    case Type::kSeal:
    case Type::kFinished:
    case Type::kAbort:
    case Type::kPing:
    case Type::kPong: break;
  }
  return OkStatus();
}

Status ZmqMember::HandleGate(const Header& header, net::Frames* frames) {
  std::string note;
  if (frames->size() > 1) note = (*frames)[1].view();
  frames->clear();
  if (note.size() > kNoteBytesMax) {
    return Blame(root(), Internal("a note of " + std::to_string(note.size()) + " bytes from " +
                                  Describe(root()) + " is too long"));
  }
  return Blame(root(), ledger_.OnGate({Sequence(header.sequence), header.a, header.b, header.extra,
                                       (header.flags & kUnsealed) == 0, std::move(note)}));
}

Status ZmqMember::HandleSeal(const Header& header, net::Frames* frames) {
  StepSeal seal(Digest{header.a, header.b});
  if (frames->size() > 1 && !DecodePieces((*frames)[1].bytes(), &seal.pieces)) {
    return Blame(root(), Internal("malformed pieces in a seal from " + Describe(root())));
  }
  frames->clear();
  return Blame(root(), ledger_.OnSeal(Sequence(header.sequence), std::move(seal)));
}

Status ZmqMember::HandleChunk(const Header& header, net::Frames* frames) {
  if (header.sequence >= ledger_.launched()) return OkStatus();  // not launched yet: held
  if (operations_.empty() || operations_.front().operation.sequence.value != header.sequence ||
      operations_.front().to.position() != header.a || frames->size() != 2 ||
      (*frames)[1].size() != header.b) {
    return Blame(
        root(), Internal("a chunk of step " + std::to_string(header.sequence) + " at byte " +
                         std::to_string(header.a) + " came out of order from " + Describe(root())));
  }
  Receiving& receiving = operations_.front();
  const std::byte* from = (*frames)[1].data();
  for (uint64_t left = header.b; left > 0;) {
    if (receiving.to.at_end()) {
      return Blame(root(), Internal("a step is longer than its gate said"));
    }
    const uint64_t part = std::min(left, receiving.to.room());
    std::memcpy(receiving.to.data(), from, part);
    if (transport_.tamper_for_test) {
      transport_.tamper_for_test(rank(), Sequence(header.sequence), receiving.to.position(),
                                 {receiving.to.data(), part});
    }
    receiving.to.Advance(part);
    from += part;
    left -= part;
  }
  progress_.bytes.fetch_add(header.b);
  frames->clear();
  if (receiving.to.at_end()) {
    operations_.pop_front();
    ledger_.Completed();
    progress_.completed.fetch_add(1);
  }
  return OkStatus();
}

void ZmqMember::SendAbort(const std::string& reason) {
  held_.clear();
  if (!joined_ || root_aborted_) return;
  net::Frames frames;
  frames.emplace_back(std::string_view(EncodeHeader({.type = Type::kAbort})));
  frames.emplace_back(std::string_view(reason));
  if (socket_.Send(&frames) != net::SendResult::kSent) return;
  // Until the root confirms by aborting too.
  const Time end = Now() + kAbortDrain;
  for (Time now = Now(); now < end; now = Now()) {
    const net::ReceiveResult received = socket_.Receive(&frames);
    if (received == net::ReceiveResult::kFailed) return;
    Header header;
    if (received == net::ReceiveResult::kMessage && DecodeHeader(frames[0].bytes(), &header) &&
        header.type == Type::kAbort) {
      return;
    }
    if (received != net::ReceiveResult::kEmpty) continue;
    wake_->Lower();
    WaitForInput(end - now);
  }
}

std::string ZmqMember::WaitingForLocked() {
  if (!joined_) return "a welcome by " + Describe(root());
  if (!operations_.empty()) {
    return "byte " + std::to_string(operations_.front().to.position()) + " of step " +
           std::to_string(ledger_.completed()) + " from " + Describe(root());
  }
  if (ledger_.finished() && !outbox_.empty()) return "Finished to leave for " + Describe(root());
  return WaitingForRoot(ledger_);
}

}  // namespace

std::unique_ptr<Collective> MakeMember(const JoinOptions& options,
                                       const ZmqTransportOptions& transport, net::ZmqSocket socket,
                                       const Digest& token) {
  return std::make_unique<ZmqMember>(options, transport, std::move(socket), token);
}

}  // namespace packcast::zmq_bulk
