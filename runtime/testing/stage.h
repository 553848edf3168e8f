#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/new_actor.h"

namespace packcast {

namespace internal {
class StageCore;
}  // namespace internal

// What the actor on a stage has sent to a peer there.
struct Sent {
  std::string to;  // the peer's name
  std::string method;
  Value body;
  bool is_call = false;
  bool control = false;
};

// An actor that the one on a stage waits to be connected with (Context::Connect).
struct Sought {
  std::string endpoint;
  std::string actor;
};

// One actor for a test, without threads, sockets or real time: it gets one message at a time when
// the test says so, and the clock stands still until the test moves it. What it sends goes to
// peers that the test plays. Runs everything on the calling thread; not thread-safe, but for what
// is sent to the actor, or answers it: that waits for its turn from any thread.
//   Stage stage(std::make_unique<Hosted<Counter>>());
//   auto sum = stage.ref<Counter>().Call(&Counter::Add, 3);
//   stage.Step();
//   EXPECT_EQ(*sum.Get(Seconds(0)), 3);
// An actor that is made with references gets those of peers:
//   Stage stage([](Stage& made) {
//     return std::make_unique<Hosted<Clerk>>(made.Peer<Counter>("counter"));
//   });
class Stage {
 public:
  // OnStart has run afterwards; see failure().
  explicit Stage(std::unique_ptr<Actor> actor);
  // `make` is called once, here, before there is an actor: it may ask for peers, the time, and
  // ref(). What it sends the actor waits.
  explicit Stage(const std::function<std::unique_ptr<Actor>(Stage&)>& make);
  // OnStop runs, if it has not. What waits is not handled any more, and is told so.
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  // The actor. What is sent to it waits until its Step.
  ActorRef ref() const;
  template <class T>
  TypedRef<T> ref() const {
    return TypedRef<T>(ref());
  }
  // A peer by name, made when it is first asked for.
  ActorRef Peer(const std::string& name);
  template <class T>
  TypedRef<T> Peer(const std::string& name) {
    return TypedRef<T>(Peer(name));
  }
  // Queues a message that comes from `peer`.
  void TellFrom(const std::string& peer, std::string method, Value body);
  Future<Value> CallFrom(const std::string& peer, std::string method, Value body);

  // Handles the first message that waits, control ones before others; false when there is none.
  // What the actor posts or awaits is a message of this kind, too.
  bool Step();
  // Until none waits, and at most `limit`; returns how many there were.
  static constexpr size_t kMostMessages = 10'000;
  size_t RunAll(size_t limit = kMostMessages);
  // Moves the clock; timers that expire on the way become messages, in their order, at their times.
  // Each is handled, with all that waits before.
  void Advance(Duration duration);
  Time now() const;
  // Queues what became of a peer, if the actor monitors or is linked with it; false if not.
  bool Happen(PeerEvent::Kind kind, const std::string& peer, const std::string& cause);

  // What the actor has sent since the last time, in order.
  std::vector<Sent> TakeSent();
  // Answers its oldest open call to `peer`; false when there is none.
  bool Answer(const std::string& peer, StatusOr<Value> result);
  // With whom it waits to be connected, oldest first. Each fails when its timeout is over on the
  // stage's clock.
  std::vector<Sought> Seeks() const;
  // Ends the oldest of these that names `actor`: it is connected with the peer of that name, or
  // learns of the error; false when there is none.
  bool AnswerConnect(const std::string& actor, const Status& result = OkStatus());

  // With what it failed (Context::Fail, OnStart threw, a linked peer died); its life has ended then
  // and it gets no more messages.
  const std::optional<Status>& failure() const;
  // Whether its life has ended: it failed, or stopped (Context::Stop, Stop).
  bool ended() const;
  uint64_t progress() const;
  // Orderly: what waits is handled, then OnStop runs.
  void Stop();

 private:
  Stage();
  const std::shared_ptr<internal::StageCore> core_;
};

}  // namespace packcast
