// A member's data path by itself: engines of several ranks over real sockets, no coordinator.
#include "actors/flow_engine.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "runtime/data/zmq_collective.h"
#include "tests/actors/machine_kit.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using ::testing::HasSubstr;
using testing::kPatience;

// trainer-0 sends to worker-0 and worker-1, by "zmq".
class FlowEngineTest : public ::testing::Test {
 protected:
  struct Member {
    explicit Member(const std::string& name)
        : transport(MakeZmqTransport({}).value()),
          engine({transport.get()}, [this](MemberEvent event) { events.Add(std::move(event)); }) {
      engine.SetSelf(Id(name));
    }
    // The first event of a type.
    template <class T>
    T Wait() {
      T found;
      events.WaitFor([&](const MemberEvent& event) {
        const T* is = std::get_if<T>(&event);
        if (is != nullptr) found = *is;
        return is != nullptr;
      });
      return found;
    }

    testing::Record<MemberEvent> events;
    std::unique_ptr<Transport> transport;
    FlowEngine engine;
  };

  FlowEngineTest() {
    contract_.flows.front().members.push_back({Id("worker-1"), Role::kWorker, "replica-1"});
    contract_.rendezvous_deadline = Milliseconds(200);
  }

  PrepareDone Prepare(Member& member) {
    return member.engine.Prepare(
        {Key(1), 5, SmallManifest(), std::make_shared<const Contract>(contract_), Generations(1)});
  }

  Contract contract_ = SmallContract();
};

TEST_F(FlowEngineTest, WhoHasNotComeIsNamedByTheRootThatWaits) {
  Member root("trainer-0");
  Member worker("worker-0");
  const PrepareDone prepared = Prepare(root);
  ASSERT_EQ(prepared.status, OkStatus());
  ASSERT_EQ(Prepare(worker).status, OkStatus());
  const JoinGenerations join{Key(1), prepared.rendezvous};
  root.engine.Join(join);
  worker.engine.Join(join);  // worker-1 never does
  const auto ready = root.Wait<GenerationsReady>();
  EXPECT_EQ(ready.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(ready.status.message(), HasSubstr("have not joined: rank 2 (worker-1)"));
  EXPECT_EQ(ready.culprit, "worker-1");
  // Who is fed knows less than the root: it waits until it is told, or the root is gone.
  testing::Record<AbortOutcome> aborted;
  worker.engine.Abort("the attempt is given up",
                      [&](AbortOutcome outcome) { aborted.Add(outcome); });
  aborted.WaitFor([](AbortOutcome outcome) { return outcome == AbortOutcome::kClean; });
  EXPECT_EQ(worker.Wait<GenerationsReady>().culprit, "");
}

}  // namespace
}  // namespace packcast
