// Child processes: spawning actors there, how their ends are told, and that none is left over.
#include "runtime/process/process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "runtime/process/child.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::FunctionActor;
using testing::kPatience;
using testing::Patient;
using testing::Record;
using testing::StartRuntime;

class Engine {
 public:
  Engine(std::string model, int64_t first) : model_(std::move(model)), count_(first) {}
  std::string Generate(int64_t tokens) { return model_ + ":" + std::to_string(count_ += tokens); }
  int64_t Pid() { return getpid(); }
  void Fail(Context& context) { context.Fail(Internal("no more")); }
  void Exit(int code) {
    std::fprintf(stderr, "cannot go on\n");
    _exit(code);
  }
  // A grandchild that holds this process's stderr, and its pid.
  int64_t Fork() {
    const pid_t pid = fork();
    if (pid == 0) {
      pause();
      _exit(0);
    }
    return pid;
  }

  static void Methods(MethodTable<Engine>& table) {
    table.Add("generate", &Engine::Generate)
        .Add("pid", &Engine::Pid)
        .Add("exit", &Engine::Exit)
        .Add("fail", &Engine::Fail)
        .Add("fork", &Engine::Fork);
  }

 private:
  const std::string model_;
  int64_t count_;
};

// It starts a process of its own, and its actor says where that one is, and its pid.
Status BeOwner(Runtime& runtime, bool detached) {
  ProcessOptions options;
  options.name = "inner";
  options.environment = {{"PROCESS_TEST_MODE", ""}};
  options.detached = detached;
  static auto* const inner = new std::unique_ptr<Process>(Process::Start(runtime, options).value());
  PC_RETURN_IF_ERROR((*inner)->Spawn<Engine>("Engine", "engine", "m", 0).status());
  return NewActor<Engine>(runtime, (*inner)->endpoint(), int64_t{(*inner)->pid()})
      .Name("owner")
      .Detached()
      .Spawn()
      .status();
}

// The child's part: this same program.
std::optional<int> BeChild() {
  ActorClasses classes;
  classes.Add<Engine, std::string, int64_t>("Engine");
  return RunIfChild(classes, [](Runtime& runtime) -> Status {
    const char* mode = std::getenv("PROCESS_TEST_MODE");
    const std::string text = mode == nullptr ? "" : mode;
    if (text == "refuse") return FailedPrecondition("no device");
    if (text == "crash") {
      std::fprintf(stderr, "before the end\n");
      _exit(7);
    }
    if (text == "hang") pause();
    if (text == "owner") return BeOwner(runtime, /*detached=*/false);
    if (text == "owner of a detached one") return BeOwner(runtime, /*detached=*/true);
    return OkStatus();
  });
}

// The same, of a main that begins with something else.
std::optional<int> Forget() {
  const char* mode = std::getenv("PROCESS_TEST_MODE");
  if (mode == nullptr || std::string(mode) != "forget") return std::nullopt;
  const auto runtime = Runtime::Start({.name = "parent"});
  std::fprintf(stderr, "%s\n", runtime.status().ToString().c_str());
  return runtime.ok() ? 0 : 1;
}

class ProcessTest : public ::testing::Test {
 protected:
  StatusOr<std::unique_ptr<Process>> Start(const std::string& mode = "") {
    ProcessOptions options;
    options.name = "child";
    options.environment = {{"PROCESS_TEST_MODE", mode}};
    options.start_timeout = mode == "hang" ? Milliseconds(300) : kPatience;
    return Process::Start(*runtime_, std::move(options));
  }
  std::shared_ptr<Record<PeerEvent>> Watch(const std::vector<ActorRef>& refs) {
    auto events = std::make_shared<Record<PeerEvent>>();
    auto watcher = std::make_unique<FunctionActor>();
    watcher->on_start = [refs](Context& context) {
      for (const ActorRef& ref : refs) context.Monitor(ref);
    };
    watcher->on_peer = [events](Context&, const PeerEvent& event) {
      if (event.kind != PeerEvent::Kind::kSuspect) events->Add(event);
    };
    watcher->on_message = [](Context&, Message message) { message.responder.Reply(Value()); };
    watcher_ = runtime_->Spawn("watcher", std::move(watcher)).value();
    SettleWatcher();
    return events;
  }
  // It has handled what it was told so far.
  void SettleWatcher() { EXPECT_TRUE(watcher_.Call("ready", Value()).Get(kPatience).ok()); }
  // The process that an owner has started.
  struct Inner {
    std::string endpoint;
    pid_t pid = -1;
  };
  static Inner InnerOf(Process& owner) {
    const TypedRef<Engine> actor(owner.Connect("owner").value());
    const std::string told = *actor.Call(&Engine::Generate, 0).Get(kPatience);
    const size_t colon = told.rfind(':');
    return {told.substr(0, colon), static_cast<pid_t>(std::stol(told.substr(colon + 1)))};
  }
  // It goes on answering: one that was told to end would not do so for so long.
  void ExpectGoesOn(const std::string& endpoint, pid_t pid) {
    const StatusOr<ActorRef> engine = runtime_->Connect(endpoint, "engine", kPatience);
    ASSERT_TRUE(engine.ok()) << engine.status();
    for (const Time until = Now() + Milliseconds(300); Now() < until;) {
      const StatusOr<int64_t> answer = TypedRef<Engine>(*engine).Call(&Engine::Pid).Get(kPatience);
      ASSERT_TRUE(answer.ok()) << answer.status();
      ASSERT_EQ(*answer, pid);
    }
  }
  // Whether the runtime comes to wait for the ends of so many processes.
  bool CountsChildren(int64_t wanted) {
    const Time give_up = Now() + kPatience;
    while (Now() < give_up) {
      const Value metrics = runtime_->Metrics();
      const Value* count = metrics.Find("child_processes");
      if (count != nullptr && *count == Value(wanted)) return true;
      std::this_thread::yield();
    }
    return false;
  }
  // Whether the process is gone or a zombie, within the patience.
  static bool IsGone(pid_t pid) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < until) {
      char state = 0;
      const std::string path = "/proc/" + std::to_string(pid) + "/stat";
      std::FILE* file = std::fopen(path.c_str(), "r");
      if (file == nullptr) return true;
      const int read = std::fscanf(file, "%*d (%*[^)]) %c", &state);
      std::fclose(file);
      if (read != 1 || state == 'Z') return true;
      std::this_thread::sleep_for(Milliseconds(5));  // a poll: it is no child of ours
    }
    return false;
  }
  std::unique_ptr<Runtime> runtime_ = StartRuntime("parent", Patient());
  ActorRef watcher_;
};

TEST_F(ProcessTest, ActorsAreSpawnedAndCalledThere) {
  const auto process = Start().value();
  const auto engine = process->Spawn<Engine>("Engine", "engine-0", "llama", 10).value();
  EXPECT_EQ(*engine.Call(&Engine::Generate, 5).Get(kPatience), "llama:15");
  EXPECT_EQ(*engine.Call(&Engine::Pid).Get(kPatience), process->pid());
  EXPECT_EQ(process->Spawn<Engine>("Engine", "engine-0", "llama", 1).status().code(),
            StatusCode::kAlreadyExists);
  const Status unknown = process->Spawn<Engine>("Motor", "m").status();
  EXPECT_EQ(unknown.code(), StatusCode::kNotFound);
  EXPECT_NE(unknown.message().find("there are: Engine"), std::string::npos) << unknown;
  EXPECT_EQ(process->Spawn<Engine>("Engine", "engine-1", "no number").status().code(),
            StatusCode::kInvalidArgument);
  const auto lasting =
      process->SpawnWith<Engine>({.restart = {.max_restarts = 1}}, "Engine", "engine-2", "qwen", 3)
          .value();
  EXPECT_EQ(*lasting.Call(&Engine::Generate, 1).Get(kPatience), "qwen:4");
  EXPECT_TRUE(lasting.Call(&Engine::Fail).Get(kPatience).ok());
  EXPECT_EQ(*lasting.Call(&Engine::Generate, 2).Get(kPatience), "qwen:5");
  const ProcessEnd end = process->Stop(kPatience);
  EXPECT_EQ(end.exit_code, 0) << end.ToString();
}

TEST_F(ProcessTest, MonitorsLearnTheExitCodeAndTheLastWords) {
  const auto process = Start().value();
  const auto engine = process->Spawn<Engine>("Engine", "engine", "m", 0).value();
  const auto events = Watch({engine.ref()});
  const Status status = engine.Call(&Engine::Exit, 4).Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kPeerDied);
  EXPECT_EQ(status.outcome(), Outcome::kMaybeExecuted);
  EXPECT_NE(status.message().find("exit code 4; its last words: cannot go on"), std::string::npos)
      << status;
  ASSERT_TRUE(events->WaitForCount(1));
  EXPECT_EQ(events->items()[0].kind, PeerEvent::Kind::kDied);
  EXPECT_EQ(events->items()[0].cause, "exit code 4; its last words: cannot go on");
  EXPECT_EQ(process->WaitEnded(kPatience)->exit_code, 4);
  EXPECT_EQ(process->Connect("engine").status().code(), StatusCode::kPeerDied);
}

TEST_F(ProcessTest, AKilledOneIsToldByItsSignalEvenWhenItWasFrozen) {
  for (const bool frozen : {false, true}) {
    RuntimeOptions quick;
    quick.suspect_after = Milliseconds(200);
    quick.unreachable_after = Milliseconds(300);
    runtime_ = StartRuntime("parent", frozen ? quick : Patient());
    const auto process = Start().value();
    const auto engine = process->Spawn<Engine>("Engine", "engine", "m", 0).value();
    const auto events = Watch({engine.ref()});
    if (frozen) {
      ASSERT_TRUE(process->Signal(SIGSTOP).ok());
      ASSERT_TRUE(events->WaitFor(
          [](const PeerEvent& event) { return event.kind == PeerEvent::Kind::kUnreachable; }));
    }
    ASSERT_TRUE(process->Signal(SIGKILL).ok());
    ASSERT_TRUE(events->WaitFor([](const PeerEvent& event) {
      return event.kind == PeerEvent::Kind::kDied && event.cause == "signal 9";
    }));
    EXPECT_EQ(process->WaitEnded(kPatience)->signal, SIGKILL);
    EXPECT_EQ(process->Signal(SIGKILL).code(), StatusCode::kFailedPrecondition);
  }
}

TEST_F(ProcessTest, WhatHoldsItsStderrDoesNotHideItsEnd) {
  const auto process = Start().value();
  const auto engine = process->Spawn<Engine>("Engine", "engine", "m", 0).value();
  const auto grandchild = static_cast<pid_t>(*engine.Call(&Engine::Fork).Get(kPatience));
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  EXPECT_EQ(process->WaitEnded(kPatience)->signal, SIGKILL);
  kill(grandchild, SIGKILL);
}

TEST_F(ProcessTest, AnyDescriptorsOfTheParentWillDo) {
  // The pipes get each of the numbers around 204 that an earlier version wanted for itself.
  for (int first = 196; first <= 206; ++first) {
    runtime_ = StartRuntime("parent", Patient());
    std::vector<int> open;
    while (open.empty() || open.back() < first - 1) open.push_back(dup(STDIN_FILENO));
    const auto process = Start().value();
    const auto engine = process->Spawn<Engine>("Engine", "engine", "m", 0).value();
    const Status status = engine.Call(&Engine::Exit, 4).Get(kPatience).status();
    EXPECT_NE(status.message().find("cannot go on"), std::string::npos) << first << status;
    for (const int fd : open) close(fd);
  }
}

TEST_F(ProcessTest, StartSaysWhyItFailed) {
  const Status refused = Start("refuse").status();
  EXPECT_EQ(refused.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("no device"), std::string::npos) << refused;
  const Status crashed = Start("crash").status();
  EXPECT_EQ(crashed.code(), StatusCode::kPeerDied);
  EXPECT_NE(crashed.message().find(
                "exit code 7; does its main begin with RunIfChild?; its last words: before"),
            std::string::npos)
      << crashed;
  EXPECT_EQ(Start("hang").status().code(), StatusCode::kDeadlineExceeded);
  ProcessOptions missing;
  missing.name = "child";
  missing.program = "/no/such/program";
  EXPECT_EQ(Process::Start(*runtime_, missing).status().code(), StatusCode::kNotFound);
  ProcessOptions foreign;
  foreign.name = "child";
  foreign.program = "true";
  const Status odd = Process::Start(*runtime_, foreign).status();
  EXPECT_EQ(odd.code(), StatusCode::kPeerDied) << odd;
  EXPECT_EQ(Process::Start(*runtime_, {}).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(ProcessTest, OneWhoseMainForgetsThatItIsAChildStartsNoRuntimeAndSaysSo) {
  const Status status = Start("forget").status();
  EXPECT_EQ(status.code(), StatusCode::kPeerDied);
  EXPECT_NE(status.message().find("its last words: failed precondition: a Process has started "
                                  "this program, but its main did not begin with RunIfChild"),
            std::string::npos)
      << status;
}

TEST_F(ProcessTest, EachWatchedActorOfAKilledOneHasAnEventOfItsOwn) {
  const auto process = Start().value();
  std::vector<ActorRef> refs;
  for (const char* name : {"engine-0", "engine-1", "engine-2"}) {
    refs.push_back(process->Spawn<Engine>("Engine", name, "m", 0).value().ref());
  }
  const auto events = Watch(refs);
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  for (const ActorRef& ref : refs) {
    ASSERT_TRUE(events->WaitFor([&](const PeerEvent& event) {
      return event.ref == ref && event.kind == PeerEvent::Kind::kDied && event.cause == "signal 9";
    })) << ref.ToString();
  }
  ASSERT_TRUE(process->WaitEnded(kPatience).ok());
  SettleWatcher();
  EXPECT_EQ(events->items().size(), refs.size()) << "one each";
}

TEST_F(ProcessTest, CallsMadeAfterItsEndSayHowItEnded) {
  const auto process = Start().value();
  const auto engine = process->Spawn<Engine>("Engine", "engine", "m", 0).value();
  const auto events = Watch({engine.ref()});
  EXPECT_FALSE(engine.Call(&Engine::Exit, 4).Get(kPatience).ok());
  ASSERT_TRUE(events->WaitForCount(1));
  const std::string how = "exit code 4; its last words: cannot go on";
  const Status called = engine.Call(&Engine::Pid).Get(kPatience).status();
  const Status told = engine.Tell(&Engine::Pid);
  for (const Status& status : {called, told}) {
    EXPECT_EQ(status.code(), StatusCode::kPeerDied) << status;
    EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
    EXPECT_NE(status.message().find(how), std::string::npos) << status;
  }
}

TEST_F(ProcessTest, WhoIsLinkedToAnActorThereFailsWhenItIsKilled) {
  const auto process = Start().value();
  const auto engine = process->Spawn<Engine>("Engine", "engine", "m", 0).value();
  auto partner = std::make_unique<FunctionActor>();
  partner->on_start = [ref = engine.ref()](Context& context) { context.Link(ref); };
  partner->on_message = [](Context&, Message message) { message.responder.Reply(Value()); };
  const ActorRef linked = runtime_->Spawn("partner", std::move(partner)).value();
  ASSERT_TRUE(linked.Call("ready", Value()).Get(kPatience).ok());  // its OnStart has run
  const auto events = Watch({linked});
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  ASSERT_TRUE(events->WaitForCount(1));
  EXPECT_EQ(events->items()[0].kind, PeerEvent::Kind::kDied);
  EXPECT_EQ(events->items()[0].cause, "linked " + engine.ref().ToString() + " died: signal 9");
}

TEST_F(ProcessTest, StopIsAnOrderlyEndForTheActorsThere) {
  const auto process = Start().value();
  const auto engine = process->Spawn<Engine>("Engine", "engine", "m", 0).value();
  const auto events = Watch({engine.ref()});
  const ProcessEnd end = process->Stop(kPatience);
  EXPECT_EQ(end.exit_code, 0) << end.ToString();
  ASSERT_TRUE(events->WaitForCount(1));
  SettleWatcher();
  ASSERT_EQ(events->items().size(), 1u);
  EXPECT_EQ(events->items()[0].kind, PeerEvent::Kind::kLeft) << events->items()[0].cause;
  EXPECT_TRUE(events->items()[0].ref == engine.ref());
}

TEST_F(ProcessTest, StopKillsWhatHasNotEndedAfterItsGrace) {
  const auto process = Start().value();
  ASSERT_TRUE(process->Signal(SIGSTOP).ok());
  siginfo_t info{};  // until all of its threads have stopped: nothing there can end it in order
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process->pid()), &info, WSTOPPED | WNOWAIT), 0);
  const Time start = Now();
  const ProcessEnd end = process->Stop(Milliseconds(200));
  EXPECT_GE(Now() - start, Milliseconds(200));
  EXPECT_EQ(end.signal, SIGKILL) << end.ToString();
}

TEST_F(ProcessTest, AChildEndsWithItsObject) {
  pid_t pid = -1;
  {
    const auto process = Start().value();
    pid = process->pid();
    ASSERT_TRUE(process->Spawn<Engine>("Engine", "engine", "m", 0).ok());
    ASSERT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1) << "not even a zombie is left";
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(ProcessTest, AChildEndsWithItsOwnerHoweverThatEnds) {
  const auto process = Start("owner").value();
  const Inner inner = InnerOf(*process);
  ASSERT_EQ(kill(inner.pid, 0), 0);
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  EXPECT_TRUE(IsGone(inner.pid));
}

TEST_F(ProcessTest, ADetachedOneGoesOnWhenItsOwnerIsKilled) {
  const auto owner = Start("owner of a detached one").value();
  const Inner inner = InnerOf(*owner);
  EXPECT_TRUE(owner->Signal(SIGKILL).ok());
  EXPECT_TRUE(owner->WaitEnded(kPatience).ok());
  ExpectGoesOn(inner.endpoint, inner.pid);
  EXPECT_EQ(kill(inner.pid, SIGTERM), 0);
  const bool is_gone = IsGone(inner.pid);
  EXPECT_TRUE(is_gone);
  if (!is_gone) kill(inner.pid, SIGKILL);
}

TEST_F(ProcessTest, ADetachedOneGoesOnWithoutItsObject) {
  std::string endpoint;
  pid_t pid = -1;
  {
    ProcessOptions options;
    options.name = "detached";
    options.detached = true;
    const auto process = Process::Start(*runtime_, options).value();
    endpoint = process->endpoint();
    pid = process->pid();
    EXPECT_TRUE(process->Spawn<Engine>("Engine", "engine", "m", 0).ok());
    EXPECT_TRUE(CountsChildren(1));
  }
  EXPECT_TRUE(CountsChildren(0)) << "its end is nothing that we wait for";
  ExpectGoesOn(endpoint, pid);
  EXPECT_EQ(kill(pid, SIGTERM), 0);
  EXPECT_TRUE(IsGone(pid)) << "nor does it stay as a zombie";
}

TEST_F(ProcessTest, WhoIsLeftBehindByItsRuntimeStillHasIt) {
  struct Shared {
    testing::Gate is_held;
    testing::Gate goes_on;
    Record<StatusCode> told;
  };
  const auto shared = std::make_shared<Shared>();
  const auto handler = [shared](Context& context, Message) {
    auto process = Process::Start(context.runtime(), {.name = "left"}).value();
    shared->is_held.Open();
    shared->goes_on.Wait();
    shared->told.Add(process->Connect("nobody").status().code());
    process.reset();
    shared->told.Add(Process::Start(context.runtime(), {.name = "left"}).status().code());
  };
  EXPECT_TRUE(runtime_->Spawn("held", testing::OnMessages(handler))->Tell("m", Value()).ok());
  shared->is_held.Wait();
  runtime_.reset();
  shared->goes_on.Open();
  ASSERT_TRUE(shared->told.WaitForCount(2));
  EXPECT_EQ(shared->told.items()[0], StatusCode::kCancelled);
  EXPECT_EQ(shared->told.items()[1], StatusCode::kOk) << "the name is free again";
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) {
  if (const auto code = packcast::Forget()) return *code;
  if (const auto code = packcast::BeChild()) return *code;
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
