#include "runtime/actor/reactor.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"
#include "runtime/base/spin.h"
#include "runtime/base/thread.h"

namespace packcast::internal {
namespace {
constexpr int64_t kFarFuture = std::numeric_limits<int64_t>::max();
// So many commands keep their memory for the next: to grow again moves all of them, again and
// again.
constexpr size_t kKeptCommands = 4096;
}  // namespace

Reactor::Reactor(Node* node)
    : node_(node), peers_(std::make_unique<Peers>(node, &context_)), sleeps_until_ns_(kFarFuture) {}

Reactor::~Reactor() { Stop(); }

Status Reactor::Start() {
  PC_RETURN_IF_ERROR(context_.Start());
  PC_ASSIGN_OR_RETURN(endpoint_, peers_->Open());
  PC_ASSIGN_OR_RETURN(thread_, StartThread("the reactor", [this] { Run(); }));
  return OkStatus();
}

void Reactor::Stop() {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wakeup_.Raise();
  if (thread_.joinable()) thread_.join();
  { std::lock_guard turn(turn_); }  // who has it sends; nobody takes it any more
  peers_->Close();
  // Here and not when the last reference goes: that may be on a thread of ZeroMQ's, with memory
  // that was lent to it.
  context_.End();
  std::vector<Command> dropped;  // destroyed without the lock
  std::lock_guard lock(mutex_);
  dropped.swap(commands_);
}

template <class Work>
bool Reactor::Push(Work&& work) {
  bool is_first = false;
  {
    std::lock_guard lock(mutex_);
    if (is_stopping_) return false;
    is_first = commands_.empty();
    commands_.emplace_back(std::forward<Work>(work));
  }
  // The thread takes all commands at once: only the first needs to wake it.
  if (is_first) wakeup_.Raise();
  return true;
}

bool Reactor::Send(Outgoing&& message, bool is_alone) {
  if (is_alone && SendNow(&message)) return true;
  return Push(std::move(message));
}

bool Reactor::SendNow(Outgoing* message) {
  if (std::this_thread::get_id() == thread_id_.load()) return false;  // it has the turn
  std::unique_lock turn(turn_, std::try_to_lock);
  if (!turn.owns_lock()) return false;
  {
    std::lock_guard lock(mutex_);
    // What was handed over before leaves before.
    if (is_stopping_ || !commands_.empty()) return false;
  }
  const std::shared_ptr<Link> link = message->link;
  const size_t bytes = message->bytes();
  bool has_come = false;
  if (!peers_->TransmitNow(message, &has_come)) return false;
  link->Release(bytes);
  // To send may take the news that the sleeping thread waits for.
  if (has_come) wakeup_.Raise();
  return true;
}

bool Reactor::Post(std::function<void(Peers&)> work) { return Push(std::move(work)); }

void Reactor::WakeAt(Time when) {
  if (when.time_since_epoch().count() < sleeps_until_ns_.load()) wakeup_.Raise();
}

void Reactor::RunCommands() {
  {
    std::lock_guard lock(mutex_);
    taken_.swap(commands_);
  }
  for (Command& command : taken_) {
    if (Outgoing* message = std::get_if<Outgoing>(&command)) {
      peers_->Transmit(std::move(*message));
    } else {
      std::get<std::function<void(Peers&)>>(command)(*peers_);
    }
  }
  taken_.clear();
  if (taken_.capacity() > kKeptCommands) taken_ = std::vector<Command>();
}

void Reactor::FireTimers() {
  const Time now = Now();
  for (TimerQueue::Expired& timer : node_->timers().TakeExpired(now)) {
    if (auto cell = timer.cell.lock()) cell->PushTimer(timer.id);
  }
  for (PendingCall& call : node_->calls().TakeExpired(now)) {
    const Outcome outcome = call.sent ? Outcome::kMaybeExecuted : Outcome::kNotExecuted;
    const Status status = DeadlineExceeded("call of " + call.what + ": no reply within " +
                                           std::to_string(ToMilliseconds(call.limit)) + " ms" +
                                           (call.sent ? "" : "; it was never sent"));
    CallTable::Resolve(std::move(call), status.WithOutcome(outcome));
  }
}

Time Reactor::NextDue(Time now) const {
  Time due = peers_->NextDue(now);
  if (const auto timer = node_->timers().Next()) due = std::min(due, *timer);
  if (const auto deadline = node_->calls().NextDeadline()) due = std::min(due, *deadline);
  return due;
}

// Prepared in the turn, for the sleep that follows it.
void Reactor::PreparePoll() {
  sleeps_until_ns_.store(kFarFuture);
  const Time now = Now();
  const Time due = NextDue(now);
  sleeps_until_ns_.store(due.time_since_epoch().count());
  wait_ = due <= now || !peers_->is_drained() ? Duration(0) : due - now;
  polled_.assign(1, {wakeup_.fd(), POLLIN, 0});
  peers_->AppendPollItems(&polled_);
}

void Reactor::Poll() {
  const Time now = Now();
  // Rounded up: waking a little early would spin.
  const int64_t wait_ms =
      wait_ <= Duration(0) ? 0 : std::min<int64_t>(ToMilliseconds(wait_) + 1, 1000);
  // Just after something has happened more is likely, and looking is quicker than being woken.
  const bool is_hot = now < hot_until_;
  const int events = poll(polled_.data(), polled_.size(), is_hot ? 0 : static_cast<int>(wait_ms));
  if (events > 0 && Spins()) hot_until_ = Now() + SpinTime();
  if (events == 0 && is_hot && !SpinPause()) hot_until_ = now;
  if (polled_[0].revents != 0) wakeup_.Lower();
}

// False when it was the last.
bool Reactor::TakeTurn() {
  std::lock_guard turn(turn_);
  if (!polled_.empty()) peers_->TakePolled(std::span(polled_).subspan(1));
  {
    std::lock_guard lock(mutex_);
    if (is_stopping_) return false;
  }
  RunCommands();
  peers_->FlushAll();  // before what has come is read: nobody waits for that
  peers_->Receive();
  peers_->Tick(Now());
  FireTimers();
  PreparePoll();
  return true;
}

void Reactor::Run() {
  thread_id_.store(std::this_thread::get_id());
  while (TakeTurn()) Poll();
  std::lock_guard turn(turn_);
  RunCommands();  // replies of actors that have just stopped
  peers_->Goodbye();
}

}  // namespace packcast::internal
