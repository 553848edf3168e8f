#pragma once

// What tests of actors' lives share: an actor that fails when told to, at one of two runtimes.
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "tests/runtime/test_util.h"

namespace packcast::testing {

using Kind = PeerEvent::Kind;

struct Gates {
  Gate is_held;  // opened by the handler of "hold"
  Gate goes_on;  // which it then waits for
};

// "fail" fails, "life" answers the number of the life, "hold" waits for the gate.
class Mortal : public Actor {
 public:
  explicit Mortal(std::shared_ptr<Gates> gates) : gates_(std::move(gates)) {}
  void OnMessage(Context& context, Message message) override {
    if (message.method == "hold") {
      gates_->is_held.Open();
      gates_->goes_on.Wait();
    }
    if (message.method == "fail") context.Fail(Internal("told to"));
    message.responder.Reply(int64_t{context.life()});
  }

 private:
  const std::shared_ptr<Gates> gates_;
};

inline SpawnOptions Restarts(int most, Duration backoff = Milliseconds(1)) {
  SpawnOptions options;
  options.restart.max_restarts = most;
  options.restart.backoff = backoff;
  return options;
}

class LivesFixture : public ::testing::Test {
 protected:
  ActorRef SpawnMortal(const std::string& name, SpawnOptions options) {
    const ActorFactory factory = [gates = gates_] { return std::make_unique<Mortal>(gates); };
    return server_->Spawn(name, factory, std::move(options)).value();
  }
  // What becomes of `ref`, as seen at `runtime` by an actor that is linked or only watches.
  std::shared_ptr<Record<PeerEvent>> Watch(Runtime& runtime, const ActorRef& ref,
                                           bool link = false) {
    auto events = std::make_shared<Record<PeerEvent>>();
    auto watcher = std::make_unique<FunctionActor>();
    watcher->on_start = [ref, link](Context& context) {
      link ? context.Link(ref) : context.Monitor(ref);
    };
    watcher->on_message = [](Context& context, Message message) {
      if (message.method == "fail") context.Fail(Internal("told to"));
      message.responder.Reply(Value());
    };
    watcher->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
    const std::string name = "watcher-" + std::to_string(watchers_++);
    last_watcher_ = runtime.Spawn(name, std::move(watcher)).value();
    // Its OnStart has run.
    EXPECT_TRUE(last_watcher_.Call("ready", Value()).Get(kPatience).ok());
    return events;
  }
  static int64_t Life(const ActorRef& ref) {
    int64_t life = 0;
    const StatusOr<Value> reply = ref.Call("life", Value()).Get(kPatience);
    EXPECT_TRUE(reply.ok()) << reply.status();
    if (reply.ok()) reply->GetInt(&life);
    return life;
  }
  static bool Saw(Record<PeerEvent>& events, Kind kind) {
    return events.WaitFor([kind](const PeerEvent& event) { return event.kind == kind; });
  }

  std::shared_ptr<Gates> gates_ = std::make_shared<Gates>();
  int watchers_ = 0;
  ActorRef last_watcher_;
  std::unique_ptr<Runtime> server_ = StartRuntime("server", Patient());
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
};

}  // namespace packcast::testing
