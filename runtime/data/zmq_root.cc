#include <algorithm>
#include <atomic>
#include <deque>
#include <map>

#include "runtime/base/clock.h"
#include "runtime/data/stream_ledger.h"
#include "runtime/data/zmq_end.h"
#include "runtime/data/zmq_loans.h"
#include "runtime/data/zmq_peer.h"

namespace packcast::zmq_bulk {
namespace {

// Messages taken in one Pump: members send a few small ones per step.
constexpr int kMessagesPerPump = 256;

// The root's end: a ROUTER that sends each member its own copy of every chunk, straight from the
// caller's memory, as fast as that member's connection takes them.
class ZmqRoot final : public ZmqEnd {
 public:
  ZmqRoot(const JoinOptions& options, const ZmqTransportOptions& transport, net::ZmqSocket socket,
          const Digest& token)
      : ZmqEnd(options, transport, std::move(socket), token),
        ledger_(size(), rank()),
        peers_(size()),
        loans_(std::make_shared<Loans>(size(), wake_)) {}

  ~ZmqRoot() override {
    {
      Lock lock(mutex_);
      if (Check().ok() && ledger_.IsQuiet()) {
        for (uint32_t member = 0; member < size(); ++member) SendControl(member);
        socket_.Close();
        return;
      }
    }
    (void)Abort("its collective was destroyed");
  }

  StatusOr<bool> Joined() override;
  Status Begin(const StreamId& stream) override;
  StatusOr<bool> Ready(Sequence sequence) override;
  Status Launch(Operation operation) override;
  StatusOr<bool> Done(Sequence sequence) override;
  Status Seal(Sequence sequence, const StepSeal& seal) override;
  Status End(uint64_t steps) override;
  StatusOr<bool> Finished() override;
  StatusOr<bool> Flushed() override;

  Status Grant(Sequence) override { return NotMember(); }
  Status Finish() override { return NotMember(); }
  StatusOr<std::optional<StepSeal>> SealOf(Sequence) override { return NotMember(); }
  StatusOr<std::optional<uint64_t>> EndOf() override { return NotMember(); }

 private:
  static Status NotMember() { return FailedPrecondition("only a member does this"); }
  StatusOr<bool> Pump() override;
  bool wants_input() const override { return true; }
  Duration longest_sleep() const override { return kPingInterval; }
  void SendAbort(const std::string& reason) override;
  Status WaitForRelease() override;
  std::string WaitingForLocked() override;
  std::vector<uint32_t> LateLocked() override;

  StatusOr<bool> ReceiveAll();
  Status Handle(const net::Frames& frames);
  void HandleHello(const std::string& routing_id, const Header& header);
  Status HandleMember(uint32_t member, const Header& header, const net::Frames& frames);
  Status HandleGranted(uint32_t member, const Header& header);
  StatusOr<bool> SendWelcomes();
  void QueueEnd(uint32_t member);
  bool SendControl(uint32_t member);
  bool SendChunks(uint32_t member);
  net::SendResult SendTo(uint32_t member, const Control& message);
  void SendPings();
  void Complete();
  bool IsRead() const { return !transport_.read_in_place || ledger_.Readers().empty(); }
  Status CheckGone();
  void QueueForAll(const Header& header, std::shared_ptr<const std::string> body = nullptr);
  std::vector<uint32_t> Missing() const;
  std::vector<uint32_t> Unflushed() const;

  RootLedger ledger_;
  std::vector<Peer> peers_;
  std::map<std::string, uint32_t, std::less<>> ranks_;  // by routing id
  const std::shared_ptr<Loans> loans_;
  std::deque<Sending> sending_;  // from ledger_.completed()
  StreamId stream_;
  Digest tag_;
  Time next_ping_{};
  uint64_t ping_round_ = 0;
};

std::vector<uint32_t> ZmqRoot::Missing() const {
  std::vector<uint32_t> missing;
  for (uint32_t member = 0; member < size(); ++member) {
    if (member != rank() && peers_[member].routing_id.empty()) missing.push_back(member);
  }
  return missing;
}

StatusOr<bool> ZmqRoot::Joined() {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  const StatusOr<bool> pumped = Pump();
  if (!pumped.ok()) return Fail(pumped.status());
  const std::vector<uint32_t> missing = Missing();
  if (missing.empty()) {
    PC_ASSIGN_OR_RETURN(joined_, SendWelcomes());
    if (joined_) CloseDoor();
  }
  if (joined_ || Now() < options().deadline) return joined_;
  const Status late = DeadlineExceeded("these have not joined: " + DescribeAll(missing));
  if (!missing.empty()) return Fail(Blame(missing.front(), late));
  return Fail(DeadlineExceeded("the welcome did not leave for " + DescribeAll(Unflushed())));
}

// Whoever has joined may stop polling, so no welcome may be left here by then: its member would
// wait for it until somebody streams.
StatusOr<bool> ZmqRoot::SendWelcomes() {
  bool all = true;
  for (uint32_t member = 0; member < size(); ++member) {
    SendControl(member);
    if (peers_[member].gone) {
      return Fail(
          Blame(member, Unavailable(Describe(member) + " left before the others had joined")));
    }
    all = all && peers_[member].control.empty();
  }
  return all;
}

Status ZmqRoot::Begin(const StreamId& stream) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.Begin());
  stream_ = stream;
  tag_ = StreamTag(stream);
  progress_.launched = 0;
  progress_.completed = 0;
  progress_.bytes = 0;
  for (Peer& peer : peers_) {
    peer.in_stream = false;
    peer.next = 0;
    peer.cursor_set = false;
  }
  QueueForAll({.type = Type::kBegin, .tag = tag_});
  return OkStatus();
}

void ZmqRoot::QueueForAll(const Header& header, std::shared_ptr<const std::string> body) {
  const std::string encoded = EncodeHeader(header);
  for (Peer& peer : peers_) {
    if (!peer.routing_id.empty()) peer.control.push_back({encoded, body});
  }
}

StatusOr<bool> ZmqRoot::Ready(Sequence sequence) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return ledger_.Ready(sequence);
}

Status ZmqRoot::Launch(Operation operation) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.CheckLaunch(operation));
  if (operation.note.size() > kNoteBytesMax) {
    return InvalidArgument("a note of " + std::to_string(operation.note.size()) +
                           " bytes is too long");
  }
  ledger_.Launched();
  progress_.launched.fetch_add(1);
  QueueForAll(
      {.type = Type::kGate,
       .extra = operation.regions,
       .tag = tag_,
       .sequence = operation.sequence.value,
       .a = operation.bytes(),
       .b = operation.first_region,
       .flags = operation.sealed ? uint16_t{0} : kUnsealed},
      operation.note.empty() ? nullptr : std::make_shared<const std::string>(operation.note));
  const uint64_t bytes = transport_.bytes_elsewhere ? 0 : operation.bytes() * (size() - 1);
  sending_.push_back({std::move(operation), std::make_shared<std::atomic<uint64_t>>(bytes)});
  return OkStatus();
}

StatusOr<bool> ZmqRoot::Done(Sequence sequence) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  Complete();
  return sequence.value < ledger_.completed();
}

Status ZmqRoot::Seal(Sequence sequence, const StepSeal& seal) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.CheckSeal(sequence));
  std::shared_ptr<const std::string> pieces;
  if (!seal.pieces.empty() && seal.pieces.size() <= kSealPiecesMax) {
    pieces = std::make_shared<const std::string>(EncodePieces(seal.pieces));
  }
  QueueForAll({.type = Type::kSeal,
               .tag = tag_,
               .sequence = sequence.value,
               .a = seal.digest.hi,
               .b = seal.digest.lo},
              std::move(pieces));
  return OkStatus();
}

Status ZmqRoot::End(uint64_t steps) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(ledger_.End(steps));
  // Who has not begun yet hears of it then: a stream without steps needs no grants.
  for (uint32_t member = 0; member < size(); ++member) {
    if (peers_[member].in_stream) QueueEnd(member);
  }
  return OkStatus();
}

void ZmqRoot::QueueEnd(uint32_t member) {
  peers_[member].control.push_back(
      {EncodeHeader({.type = Type::kEnd, .tag = tag_, .sequence = ledger_.launched()}), nullptr});
}

StatusOr<bool> ZmqRoot::Finished() {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return ledger_.AllFinished();
}

StatusOr<bool> ZmqRoot::Flushed() {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  return Unflushed().empty();
}

// Who is owed a control message: one that is queued, or the End, which a member gets once it has
// begun the stream.
std::vector<uint32_t> ZmqRoot::Unflushed() const {
  std::vector<uint32_t> ranks;
  for (uint32_t member = 0; member < size(); ++member) {
    const Peer& peer = peers_[member];
    if (member == rank() || peer.gone) continue;
    if (!peer.control.empty() || (ledger_.ended() && !peer.in_stream)) ranks.push_back(member);
  }
  return ranks;
}

void ZmqRoot::Complete() {
  while (!sending_.empty() && sending_.front().bytes_left->load() == 0 && IsRead()) {
    progress_.bytes.fetch_add(sending_.front().operation.bytes());
    progress_.completed.fetch_add(1);
    sending_.pop_front();
    ledger_.Completed();
  }
}

StatusOr<bool> ZmqRoot::Pump() {
  PC_ASSIGN_OR_RETURN(bool progress, ReceiveAll());
  SendPings();
  for (uint32_t member = 0; member < size(); ++member) {
    if (member == rank() || peers_[member].routing_id.empty()) continue;
    if (SendControl(member)) progress = true;
    // Chunks follow their gate.
    if (peers_[member].control.empty() && SendChunks(member)) progress = true;
  }
  Complete();
  // Who closed its connection may have said why: that is read first. What else comes is progress
  // like any other: nothing would wake a sleep that begins after it.
  PC_ASSIGN_OR_RETURN(const bool more, ReceiveAll());
  PC_RETURN_IF_ERROR(CheckGone());
  return progress || more;
}

StatusOr<bool> ZmqRoot::ReceiveAll() {
  bool progress = false;
  for (int k = 0; k < kMessagesPerPump; ++k) {
    net::Frames frames;
    const net::ReceiveResult received = socket_.Receive(&frames);
    if (received == net::ReceiveResult::kEmpty) break;
    if (received == net::ReceiveResult::kFailed) return Internal("the bulk socket failed");
    if (received == net::ReceiveResult::kTooManyFrames) continue;  // no member does that
    PC_RETURN_IF_ERROR(Handle(frames));
    progress = true;
  }
  return progress;
}

// Frames: routing id, header, and for an abort its reason. Strangers are ignored.
Status ZmqRoot::Handle(const net::Frames& frames) {
  Header header;
  if (frames.size() < 2 || !DecodeHeader(frames[1].bytes(), &header)) return OkStatus();
  const std::string routing_id(frames[0].view());
  const auto known = ranks_.find(routing_id);
  if (known != ranks_.end()) return HandleMember(known->second, header, frames);
  if (header.type == Type::kHello) HandleHello(routing_id, header);
  return OkStatus();
}

void ZmqRoot::HandleHello(const std::string& routing_id, const Header& header) {
  const uint32_t member = header.extra;
  const bool fits = header.tag == token_ && header.sequence == options().generation.value &&
                    header.a == size() && header.b == rank() && member < size() && member != rank();
  // The first to come is the rank, for the whole generation.
  if (!fits || !peers_[member].routing_id.empty()) return;
  Peer& peer = peers_[member];
  peer.routing_id = routing_id;
  ranks_[routing_id] = member;
  peer.control.push_back({EncodeHeader({.type = Type::kWelcome}), nullptr});
  if (ledger_.begun()) {
    peer.control.push_back({EncodeHeader({.type = Type::kBegin, .tag = tag_}), nullptr});
  }
}

Status ZmqRoot::HandleMember(uint32_t member, const Header& header, const net::Frames& frames) {
  switch (header.type) {
    case Type::kGranted: return HandleGranted(member, header);
    case Type::kFinished:
      if (ledger_.begun() && header.tag == tag_) ledger_.OnFinished(member);
      break;
    case Type::kAbort:
      return Aborted(Describe(member) + " aborted the collective: " +
                     (frames.size() > 2 ? std::string(frames[2].view().substr(0, kReasonBytesMax))
                                        : std::string()));
    case Type::kPong: peers_[member].pings_out = 0; break;
    case Type::kHello:
    case Type::kWelcome:
    case Type::kBegin:
    case Type::kGate:
    case Type::kChunk:
    case Type::kSeal:
    case Type::kEnd:
    case Type::kPing: break;
  }
  return OkStatus();
}

Status ZmqRoot::HandleGranted(uint32_t member, const Header& header) {
  if (!ledger_.begun() || header.tag != tag_) return OkStatus();  // stale, or not begun here yet
  const Digest theirs{header.a, header.b};
  if (theirs != stream_.plan_digest) return PlansDiffer(member, theirs, stream_.plan_digest);
  const Status granted = ledger_.OnGranted(member, header.sequence);
  if (!granted.ok()) return Blame(member, granted.WithContext(Describe(member)));
  const Status released = ledger_.OnReleased(member, header.extra);
  if (!released.ok()) return Blame(member, released.WithContext(Describe(member)));
  if (!peers_[member].in_stream) {
    peers_[member].in_stream = true;
    if (ledger_.ended()) QueueEnd(member);
  }
  return OkStatus();
}

net::SendResult ZmqRoot::SendTo(uint32_t member, const Control& message) {
  net::Frames frames;
  frames.emplace_back(std::string_view(peers_[member].routing_id));
  frames.emplace_back(std::string_view(message.header));
  if (message.body != nullptr) frames.emplace_back(std::string_view(*message.body));
  const net::SendResult result = socket_.Send(&frames);
  if (result == net::SendResult::kUnroutable || result == net::SendResult::kFailed) {
    peers_[member].gone = true;
  }
  return result;
}

bool ZmqRoot::SendControl(uint32_t member) {
  Peer& peer = peers_[member];
  bool sent = false;
  while (!peer.gone && !peer.control.empty()) {
    if (SendTo(member, peer.control.front()) != net::SendResult::kSent) break;
    peer.control.pop_front();
    sent = true;
  }
  return sent;
}

bool ZmqRoot::SendChunks(uint32_t member) {
  if (transport_.bytes_elsewhere) return false;
  Peer& peer = peers_[member];
  bool sent = false;
  while (!peer.gone && peer.next < ledger_.launched() &&
         loans_->of(member) < transport_.chunks_in_flight) {
    // Operations complete in order, and none completes before this member got it all.
    Sending& sending = sending_[peer.next - ledger_.completed()];
    if (!peer.cursor_set) {
      peer.cursor = SpanCursor(sending.operation.spans);
      peer.cursor_set = true;
    }
    const uint64_t part = std::min(peer.cursor.room(), transport_.chunk_bytes);
    net::Frames frames;
    frames.emplace_back(std::string_view(peer.routing_id));
    frames.emplace_back(std::string_view(EncodeHeader({.type = Type::kChunk,
                                                       .tag = tag_,
                                                       .sequence = peer.next,
                                                       .a = peer.cursor.position(),
                                                       .b = part})));
    loans_->Lend(member);
    frames.push_back(net::Frame::Borrow({peer.cursor.data(), part},
                                        [loans = loans_, left = sending.bytes_left, member, part] {
                                          left->fetch_sub(part);
                                          loans->Return(member);
                                        }));
    const net::SendResult result = socket_.Send(&frames);
    if (result != net::SendResult::kSent) {
      sending.bytes_left->fetch_add(part);  // the frame dies here, and was not sent
      peer.gone = result != net::SendResult::kFull;
      break;
    }
    sent = true;
    peer.cursor.Advance(part);
    if (peer.cursor.at_end()) {
      ++peer.next;
      peer.cursor_set = false;
    }
  }
  return sent;
}

void ZmqRoot::SendPings() {
  const Time now = Now();
  if (now < next_ping_) return;
  next_ping_ = now + kPingInterval;
  ++ping_round_;
  const Control ping{EncodeHeader({.type = Type::kPing}), nullptr};
  for (uint32_t member = 0; member < size(); ++member) {
    Peer& peer = peers_[member];
    if (peer.routing_id.empty() || peer.gone || !peer.control.empty()) continue;
    // Who does not answer may be frozen and still lose its connection: go on, but slowly, and
    // never so long that pings fill the queue.
    const bool slow = peer.pings_out >= kPingsAtOnce && ping_round_ % kPingsAtOnce != 0;
    if (slow || peer.pings_out >= kPingsMax) continue;
    if (SendTo(member, ping) == net::SendResult::kSent) ++peer.pings_out;
  }
}

Status ZmqRoot::CheckGone() {
  for (uint32_t member = 0; member < size(); ++member) {
    if (!peers_[member].gone || !ledger_.begun() || ledger_.finished(member)) continue;
    return Blame(member, Unavailable("the connection to " + Describe(member) +
                                     " is closed, after it granted step " +
                                     std::to_string(ledger_.granted(member)) + " of " +
                                     std::to_string(ledger_.launched()) + " launched"));
  }
  return OkStatus();
}

void ZmqRoot::SendAbort(const std::string& reason) {
  for (uint32_t member = 0; member < size(); ++member) {
    if (peers_[member].routing_id.empty() || peers_[member].gone) continue;
    net::Frames frames;
    frames.emplace_back(std::string_view(peers_[member].routing_id));
    frames.emplace_back(std::string_view(EncodeHeader({.type = Type::kAbort})));
    frames.emplace_back(std::string_view(reason));
    (void)socket_.Send(&frames);
  }
}

Status ZmqRoot::WaitForRelease() {
  if (loans_->WaitForNone(transport_.abort_timeout)) return OkStatus();
  return DeadlineExceeded("ZeroMQ still holds buffers of " + Describe(rank()) + " after " +
                          std::to_string(ToMilliseconds(transport_.abort_timeout)) + " ms");
}

std::vector<uint32_t> ZmqRoot::LateLocked() {
  if (!joined_ && !Missing().empty()) return Missing();
  const bool is_flushed = !ledger_.ended() || Unflushed().empty();
  if (sending_.empty()) return is_flushed ? ledger_.Laggards() : Unflushed();
  if (transport_.read_in_place) return ledger_.Readers();
  std::vector<uint32_t> slow;
  for (uint32_t member = 0; member < size(); ++member) {
    const bool is_slow = peers_[member].next == ledger_.completed() || loans_->of(member) > 0;
    if (member != rank() && is_slow) slow.push_back(member);
  }
  return slow;
}

std::string ZmqRoot::WaitingForLocked() {
  const std::string late = DescribeAll(LateLocked());
  if (!joined_ && !Missing().empty()) return "a hello by " + late;
  const std::string step = "step " + std::to_string(ledger_.completed());
  if (!sending_.empty()) {
    return step + (transport_.read_in_place ? " to be read by " : " to leave for ") + late;
  }
  if (ledger_.ended() && !Unflushed().empty()) return "End to leave for " + late;
  return WaitingForMembers(ledger_);
}

}  // namespace

std::unique_ptr<Collective> MakeRoot(const JoinOptions& options,
                                     const ZmqTransportOptions& transport, net::ZmqSocket socket,
                                     const Digest& token) {
  return std::make_unique<ZmqRoot>(options, transport, std::move(socket), token);
}

}  // namespace packcast::zmq_bulk
