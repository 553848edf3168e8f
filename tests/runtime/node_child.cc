// A process with one runtime and one actor, for tests that kill, stop or restart it.
// node_child NAME BIND: prints its endpoint and serves until it is killed or its stdin closes.
// node_child NAME - ENDPOINT: connects to the actor "listener" there and tells it "here"; when that
// is gone, prints what a second try to connect says.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

int Run(int argc, char** argv) {
  RuntimeOptions options;
  options.name = argv[1];
  const std::string bind = argv[2];
  options.bind = bind == "-" ? "" : bind;
  auto runtime = Runtime::Start(options);
  if (!runtime.ok()) {
    std::fprintf(stderr, "%s\n", runtime.status().ToString().c_str());
    return 1;
  }
  auto counter = std::make_shared<int64_t>(0);
  auto actor = testing::OnMessages([counter](Context& context, Message message) {
    if (message.method == "hold") {
      static testing::Record<std::shared_ptr<Responder>> held;
      held.Add(std::make_shared<Responder>(std::move(message.responder)));
      return;
    }
    context.ReportProgress(++*counter);
    message.responder.Reply(Value(*counter));
  });
  ActorRef listener;
  if (argc > 3) {
    listener = (*runtime)->Connect(argv[3], "listener", testing::kPatience).value();
    actor->on_start = [listener](Context& context) {
      context.Monitor(listener);
      (void)listener.Tell("here", Value());
    };
    // Asks why it was left, and says so.
    actor->on_peer = [endpoint = std::string(argv[3]), &runtime](Context&, const PeerEvent& event) {
      using Kind = PeerEvent::Kind;
      if (event.kind != Kind::kLeft && event.kind != Kind::kDied) return;
      const auto again = (*runtime)->Connect(endpoint, "listener", testing::kPatience);
      std::printf("%s\n", again.status().ToString().c_str());
      std::fflush(stdout);
    };
  }
  if (!(*runtime)->Spawn("callee", std::move(actor)).ok()) return 1;
  std::printf("%s\n", (*runtime)->endpoint().c_str());
  std::fflush(stdout);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  (*runtime)->Shutdown(Milliseconds(100));
  return 0;
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) { return argc < 3 ? 2 : packcast::Run(argc, argv); }
