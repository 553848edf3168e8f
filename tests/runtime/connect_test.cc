// How actors are found, here and from another process: whoever comes first, as soon as they are
// there, and that all references name the same one.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/actor/link.h"
#include "runtime/base/clock.h"
#include "tests/runtime/lives_fixture.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::FunctionActor;
using testing::kPatience;
using testing::OnMessages;
using testing::Patient;
using testing::Record;
using testing::Restarts;
using testing::StartRuntime;
using Kind = PeerEvent::Kind;

class ConnectTest : public testing::LivesFixture {
 protected:
  std::future<StatusOr<ActorRef>> StartToConnect(const std::string& endpoint,
                                                 const std::string& actor) {
    return std::async(std::launch::async, [this, endpoint, actor] {
      return client_->Connect(endpoint, actor, kPatience);
    });
  }
  // Tries, over the same connection, until it has failed for that reason: then whoever waits has
  // been told the same.
  void ExpectFails(StatusCode code, const std::string& endpoint, const std::string& actor) {
    const Time give_up = Now() + kPatience;
    Status status;
    do {
      status = client_->Connect(endpoint, actor, Milliseconds(200)).status();
    } while (status.code() != code && Now() < give_up);
    EXPECT_EQ(status.code(), code) << status;
  }
  static bool IsWaiting(const std::future<StatusOr<ActorRef>>& found) {
    return found.wait_for(Duration(0)) == std::future_status::timeout;
  }
  static void ExpectReached(std::future<StatusOr<ActorRef>> found) {
    const StatusOr<ActorRef> ref = found.get();
    ASSERT_TRUE(ref.ok()) << ref.status();
    EXPECT_TRUE(ref->Call("echo", Value()).Get(kPatience).ok());
  }
};

TEST_F(ConnectTest, WaitsForTheActorToAppear) {
  auto found = StartToConnect(server_->endpoint(), "late");
  ExpectFails(StatusCode::kNotFound, server_->endpoint(), "late");
  EXPECT_TRUE(IsWaiting(found));
  ASSERT_TRUE(server_->Spawn("late", Echo()).ok());
  ExpectReached(std::move(found));
}

// A port that nobody else gets, and at which nobody listens until one does who asks for this one.
class ReservedPort {
 public:
  ReservedPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;  // as ZeroMQ does: else it could not bind the port as well
    EXPECT_EQ(setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    endpoint_ = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~ReservedPort() { close(fd_); }
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;
  const std::string& endpoint() const { return endpoint_; }

 private:
  const int fd_;
  std::string endpoint_;
};

TEST_F(ConnectTest, WaitsForTheProcessToAppear) {
  const ReservedPort port;
  auto found = StartToConnect(port.endpoint(), "late");
  ExpectFails(StatusCode::kUnavailable, port.endpoint(), "late");
  EXPECT_TRUE(IsWaiting(found));
  RuntimeOptions options = Patient();
  options.bind = port.endpoint();
  const auto late = StartRuntime("late", options);
  ASSERT_TRUE(late->Spawn("late", Echo()).ok());
  ExpectReached(std::move(found));
}

TEST_F(ConnectTest, AnActorThatWasStoppedIsNotFoundAndNothingRuns) {
  const ActorRef near = server_->Spawn("callee", Echo()).value();
  const ActorRef far = client_->Connect(server_->endpoint(), "callee", kPatience).value();
  ASSERT_TRUE(server_->Stop(near, kPatience).ok());
  for (const ActorRef& ref : {near, far}) {
    const Status status = ref.Call("echo", Value()).Get(kPatience).status();
    EXPECT_EQ(status.code(), StatusCode::kNotFound) << status;
    EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
    EXPECT_NE(status.message().find("callee"), std::string::npos) << status;
  }
}

class Counter {
 public:
  int64_t Add() { return ++count_; }
  static void Methods(MethodTable<Counter>& table) { table.Add("add", &Counter::Add); }

 private:
  int64_t count_ = 0;
};

TEST_F(ConnectTest, OfManyThreadsThatGetOrCreateAllGetTheSame) {
  constexpr int kThreads = 8;
  constexpr int kNames = 200;
  std::barrier<> together(kThreads);
  std::vector<std::vector<TypedRef<Counter>>> got(kThreads);
  std::vector<std::thread> threads;
  for (std::vector<TypedRef<Counter>>& mine : got) {
    threads.emplace_back([&] {
      for (int k = 0; k < kNames; ++k) {
        const auto builder = NewActor<Counter>(*server_).Namespace("many").Name(std::to_string(k));
        together.arrive_and_wait();
        const auto counter = builder.GetOrCreate();
        EXPECT_TRUE(counter.ok()) << counter.status();
        mine.push_back(counter.ok() ? *counter : TypedRef<Counter>());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_FALSE(HasFailure());
  for (size_t k = 0; k < kNames; ++k) {
    for (const std::vector<TypedRef<Counter>>& each : got) {
      EXPECT_EQ(each[k].ref(), got[0][k].ref());
      EXPECT_TRUE(each[k].Tell(&Counter::Add).ok());
    }
    EXPECT_EQ(*got[0][k].Call(&Counter::Add).Get(kPatience), kThreads + 1);
  }
}

// One by the message it sent, over the connection that its process has made; one by its name, over
// a connection to its process; and those that the events of both have.
TEST_F(ConnectTest, AllReferencesToAnActorOfAnotherProcessAreEqual) {
  auto senders = std::make_shared<Record<ActorRef>>();
  ASSERT_TRUE(server_
                  ->Spawn("host", OnMessages([senders](Context& context, Message message) {
                            senders->Add(context.sender());
                            senders->Add(message.from);
                          }))
                  .ok());
  const ActorRef host = client_->Connect(server_->endpoint(), "host", kPatience).value();
  const auto spawn_guest = [&](const std::string& name) {
    auto guest = std::make_unique<FunctionActor>();
    guest->on_start = [host](Context&) { EXPECT_TRUE(host.Tell("enter", Value()).ok()); };
    return client_->Spawn(name, std::move(guest)).value();
  };
  const ActorRef guest = spawn_guest("guest");
  ASSERT_TRUE(senders->WaitForCount(2));
  const ActorRef sender = senders->items()[0];
  const ActorRef found = server_->Connect(client_->endpoint(), "guest", kPatience).value();
  EXPECT_NE(sender.state()->link, found.state()->link) << "the test wants two connections";
  EXPECT_EQ(senders->items()[1], sender);
  EXPECT_EQ(found, sender);
  EXPECT_EQ(sender, found);
  const auto of_sender = Watch(*server_, sender);
  const auto of_found = Watch(*server_, found);
  ASSERT_TRUE(client_->Stop(guest, kPatience).ok());
  for (const auto& events : {of_sender, of_found}) {
    ASSERT_TRUE(Saw(*events, Kind::kLeft));
    EXPECT_EQ(events->items().back().ref, sender);
    EXPECT_EQ(events->items().back().ref, found);
  }
  spawn_guest("other");
  ASSERT_TRUE(senders->WaitForCount(4));
  EXPECT_NE(senders->items()[2], sender);
}

TEST_F(ConnectTest, AReferenceFromAnotherProcessNamesOneLifeAndReachesTheNext) {
  const ActorRef near = SpawnMortal("mortal", Restarts(1));
  const auto connect = [&] {
    return client_->Connect(server_->endpoint(), "mortal", kPatience).value();
  };
  const ActorRef first = connect();
  const auto events = Watch(*client_, first);
  EXPECT_TRUE(near.Call("fail", Value()).Get(kPatience).ok());
  ASSERT_TRUE(Saw(*events, Kind::kRestarted));
  EXPECT_TRUE(events->items().back().ref == first) << "the one that was monitored";
  const ActorRef second = connect();
  EXPECT_TRUE(second == connect()) << "the same life";
  EXPECT_FALSE(second == first) << "another life";
  EXPECT_EQ(second.incarnation(), events->items().back().incarnation);
  EXPECT_EQ(Life(second), 2);
  EXPECT_EQ(Life(first), 2);
}

TEST_F(ConnectTest, ReferencesFollow64Restarts) {
  SpawnMortal("mortal", Restarts(-1, Duration(0)));
  const ActorRef near = server_->Find("mortal").value();
  const ActorRef far = client_->Connect(server_->endpoint(), "mortal", kPatience).value();
  for (int life = 1; life < 64; ++life) {
    ASSERT_TRUE(near.Call("fail", Value()).Get(kPatience).ok());
    ASSERT_EQ(Life(near), life + 1);
  }
  EXPECT_EQ(Life(far), 64);
  for (int life = 64; life < 70; ++life) {
    ASSERT_TRUE(near.Call("fail", Value()).Get(kPatience).ok());
    ASSERT_EQ(Life(near), life + 1);
  }
  const Status status = far.Call("life", Value()).Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kStale) << status;
  EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
}

// Counts its objects.
class Counted {
 public:
  struct Counts {
    std::atomic<int> made{0}, started{0}, gone{0};
  };
  explicit Counted(std::shared_ptr<Counts> counts) : counts_(std::move(counts)) { ++counts_->made; }
  ~Counted() { ++counts_->gone; }
  void OnStart(Context&) { ++counts_->started; }
  static void Methods(MethodTable<Counted>& table) { table.Add("get", &Counted::Get); }
  int64_t Get() const { return 1; }

 private:
  const std::shared_ptr<Counts> counts_;
};

TEST_F(ConnectTest, TheObjectOfWhoComesSecondIsDestroyedUnused) {
  auto counts = std::make_shared<Counted::Counts>();
  constexpr int kThreads = 8;
  std::barrier<> all(kThreads);
  std::vector<std::thread> threads;
  for (int k = 0; k < kThreads; ++k) {
    threads.emplace_back([&] {
      all.arrive_and_wait();
      const auto ref = NewActor<Counted>(*server_, counts).Name("one").GetOrCreate();
      EXPECT_TRUE(ref.ok() && ref->Call(&Counted::Get).Get(kPatience).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counts->started, 1);
  EXPECT_EQ(counts->made - counts->gone, 1);
}

TEST_F(ConnectTest, AnActorOfOnesOwnThatAppearsLaterIsAtHomeToo) {
  const auto later = server_->ConnectAsync(server_->endpoint(), "later", kPatience);
  // It waits over a connection: the other, which asks after it, has been told that there is none.
  ExpectFails(StatusCode::kNotFound, server_->endpoint(), "nobody");
  EXPECT_FALSE(later.ready());
  const ActorRef here = server_->Spawn("later", Echo()).value();
  const ActorRef found = later.Get(kPatience).value();
  EXPECT_TRUE(found.local());
  EXPECT_EQ(found, here);
  EXPECT_TRUE(server_->Stop(found, kPatience).ok());
}

TEST_F(ConnectTest, TwoListenersOfOneNameAreNotNoticed) {
  const auto twin = StartRuntime("server", Patient());
  ASSERT_TRUE(server_->Spawn("here", Echo()).ok());
  ASSERT_TRUE(twin->Spawn("there", Echo()).ok());
  const ActorRef here = client_->Connect(server_->endpoint(), "here", kPatience).value();
  const auto news = Watch(*client_, here);
  const ActorRef there = client_->Connect(twin->endpoint(), "there", kPatience).value();
  for (const ActorRef& ref : {here, there, here}) {
    EXPECT_TRUE(ref.Call("echo", Value()).Get(kPatience).ok());
  }
  EXPECT_TRUE(news->items().empty());
}

}  // namespace
}  // namespace packcast
