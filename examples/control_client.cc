#include "examples/control_client.h"

#include <utility>

#include "runtime/actor/actor.h"

namespace packcast::examples {
namespace {

constexpr Duration kSubscribeDeadline = Seconds(10);

// Takes the events. The subscription is this actor's, so it asks for it itself.
class EventActor : public Actor {
 public:
  EventActor(ActorRef coordinator, std::function<void(const Value&)> on_event,
             Promise<Value> subscribed)
      : coordinator_(std::move(coordinator)),
        on_event_(std::move(on_event)),
        subscribed_(std::move(subscribed)) {}

  void OnStart(Context&) override {
    const Future<Value> answer =
        coordinator_.Call("subscribe", ValueMap{}, CallOptions{.deadline = kSubscribeDeadline});
    answer.Then(
        [subscribed = subscribed_](const StatusOr<Value>& result) { subscribed.Set(result); });
  }
  void OnMessage(Context&, Message message) override {
    if (message.method == "event") on_event_(message.body);
    if (message.method == "flush") message.responder.Reply(Value());
  }

 private:
  const ActorRef coordinator_;
  const std::function<void(const Value&)> on_event_;
  const Promise<Value> subscribed_;
};

}  // namespace

StatusOr<std::unique_ptr<ControlClient>> ControlClient::Connect(
    Runtime* runtime, const std::string& endpoint, std::function<void(const Value&)> on_event,
    Duration timeout) {
  PC_ASSIGN_OR_RETURN(const ActorRef coordinator,
                      runtime->Connect(endpoint, "coordinator", timeout));
  const Promise<Value> subscribed;
  PC_ASSIGN_OR_RETURN(const ActorRef events,
                      runtime->Spawn("events", std::make_unique<EventActor>(
                                                   coordinator, std::move(on_event), subscribed)));
  const StatusOr<Value> answer = subscribed.future().Get(timeout);
  if (!answer.ok()) return answer.status().WithContext("subscribing to events");
  return std::unique_ptr<ControlClient>(new ControlClient(coordinator, events));
}

Future<Value> ControlClient::Call(const std::string& method, ValueMap arguments,
                                  Duration deadline) const {
  return coordinator_.Call(method, std::move(arguments), CallOptions{.deadline = deadline});
}

void ControlClient::Flush(Duration timeout) const {
  (void)events_.Call("flush", Value(), CallOptions{.deadline = timeout}).Get(timeout);
}

}  // namespace packcast::examples
