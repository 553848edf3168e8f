#include "runtime/data/zmq_collective.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "runtime/data/zmq_wire.h"
#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using testing::BeginAll;
using testing::Collector;
using ::testing::HasSubstr;
using testing::In;
using testing::TestStream;
using testing::TestTensor;

constexpr uint64_t kChunk = 4096;

std::unique_ptr<Transport> SmallChunks(ZmqTransportOptions options = {}) {
  options.chunk_bytes = kChunk;
  options.chunks_in_flight = 4;
  return MakeZmqTransport(options).value();
}

// Polls all ranks on this thread until `done` or a minute has passed.
template <class Done>
bool PollUntil(const std::vector<Collective*>& ranks, Done done) {
  const Time limit = In(Seconds(60));
  while (!done()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    for (Collective* rank : ranks) (void)rank->Poll(Milliseconds(1));
  }
  return true;
}

std::vector<Collective*> Pointers(const std::vector<std::unique_ptr<Collective>>& ranks) {
  std::vector<Collective*> pointers;
  for (const auto& rank : ranks) pointers.push_back(rank.get());
  return pointers;
}

bool AllJoined(const std::vector<Collective*>& ranks) {
  return std::all_of(ranks.begin(), ranks.end(), [](Collective* rank) {
    const auto joined = rank->Joined();
    return joined.ok() && *joined;
  });
}

struct Outcome {
  StatusOr<BroadcastResult> result = Internal("did not run");
  bool intact = false;
};

// One whole broadcast with a thread per rank; root is rank 0.
std::vector<Outcome> Broadcast(const std::vector<std::unique_ptr<Collective>>& ranks,
                               const std::vector<TestTensor>& tensors,
                               const BroadcastOptions& options, Duration deadline = Seconds(60)) {
  std::vector<Outcome> outcomes(ranks.size());
  std::vector<std::thread> threads;
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    threads.emplace_back([&, rank] {
      Collector collector(tensors);
      const auto rows = RowsOf(testing::RowsIn(tensors));
      auto consumer =
          PackedConsumer::Make(ranks[rank].get(), rows.get(), options, collector.callback());
      outcomes[rank].result = (*consumer)->Run(In(deadline));
      outcomes[rank].intact = collector.complete();
      for (size_t row = 0; row < tensors.size() && outcomes[rank].intact; ++row) {
        outcomes[rank].intact = collector.rows()[row] == tensors[row].wire;
      }
    });
  }
  const auto source = SourceOf(testing::ViewsOf(tensors));
  auto producer = PackedProducer::Make(ranks[0].get(), source.get(), options);
  outcomes[0].result = (*producer)->Run(In(deadline));
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

std::vector<TestTensor> SizesAroundChunks() {
  std::mt19937_64 rng(5);
  std::vector<TestTensor> tensors;
  for (int64_t bytes : {int64_t{1}, int64_t{255}, int64_t{4095}, int64_t{4096}, int64_t{4097},
                        int64_t{8191}, int64_t{8192}, int64_t{8193}, int64_t{0}, int64_t{100000}}) {
    tensors.push_back(testing::MakeTensor("t" + std::to_string(bytes), Dtype::kU8, {bytes}, &rng));
  }
  return tensors;
}

// What other ranks see of an abort: who it was, and why if the reason got through before the
// connection closed. On a busy machine it may not.
void ExpectRankGaveUp(const Status& status, const std::string& who, const std::string& why) {
  EXPECT_THAT(status.message(), HasSubstr(who));
  if (status.code() == StatusCode::kUnavailable) return;
  EXPECT_EQ(status.code(), StatusCode::kAborted);
  EXPECT_THAT(status.message(), HasSubstr(why));
}

BroadcastOptions SmallBuffers(uint64_t bytes = 16384) {
  BroadcastOptions options;
  options.plan.buffer_bytes = bytes;
  return options;
}

TEST(ZmqCollective, DeliversEveryByteToThreeMembersOverManyStreams) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 4, 0);
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] { return AllJoined(Pointers(ranks)); }));
  const auto tensors = SizesAroundChunks();
  uint64_t epoch = 0;
  for (uint64_t buffer : {256, 3840, 4096, 4352, 8192, 65536, 1 << 20}) {
    BeginAll(ranks, TestStream(++epoch));
    const auto outcomes = Broadcast(ranks, tensors, SmallBuffers(buffer));
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      ASSERT_TRUE(outcomes[rank].result.ok()) << outcomes[rank].result.status();
      EXPECT_EQ(outcomes[rank].result->content_digest, outcomes[0].result->content_digest);
      EXPECT_TRUE(rank == 0 || outcomes[rank].intact) << "rank " << rank;
    }
  }
}

TEST(ZmqCollective, SendsDirectRegionsFromTheTensorsOwnMemory) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 2, 0);
  const auto tensors = SizesAroundChunks();
  BroadcastOptions options = SmallBuffers();
  options.plan.direct_bytes_min = 4096;
  options.plan.direct_rows = {3, 4, 5, 9};
  std::vector<std::vector<std::byte>> memory;
  TargetMap targets;
  for (uint32_t row = 0; row < tensors.size(); ++row) {
    memory.emplace_back(tensors[row].wire.size());
    targets.SetRow(row, MemoryTarget(memory[row].data(), memory[row].size()));
  }
  BeginAll(ranks, TestStream());
  const auto source = SourceOf(testing::ViewsOf(tensors));
  const auto rows = RowsOf(testing::RowsIn(tensors));
  auto producer = PackedProducer::Make(ranks[0].get(), source.get(), options).value();
  auto consumer =
      PackedConsumer::Make(ranks[1].get(), rows.get(), options, nullptr, &targets).value();
  auto sent = std::async(std::launch::async, [&] { return producer->Run(In(Seconds(60))); });
  const auto got = consumer->Run(In(Seconds(60)));
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_TRUE(sent.get().ok());
  for (size_t row = 0; row < tensors.size(); ++row) EXPECT_EQ(memory[row], tensors[row].wire);
}

TEST(ZmqCollective, CorruptedPayloadIsDataLossThatNamesStepTensorAndRank) {
  ZmqTransportOptions options;
  options.tamper_for_test = [](uint32_t rank, Sequence sequence, uint64_t offset,
                               std::span<std::byte> bytes) {
    if (rank == 2 && sequence.value == 3 && offset == 0) bytes[17] ^= std::byte{1};
  };
  const auto transport = SmallChunks(options);
  const auto ranks = testing::JoinAll(transport.get(), 3, 0);
  BeginAll(ranks, TestStream());
  const auto outcomes = Broadcast(ranks, SizesAroundChunks(), SmallBuffers());
  const Status status = outcomes[2].result.status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_THAT(status.message(), HasSubstr("rank 2 (node-2): step 3 (tensors \"t100000\""));
  // The root learns who gave up and why.
  ExpectRankGaveUp(outcomes[0].result.status(), "rank 2 (node-2)", "has checksum");
  EXPECT_FALSE(outcomes[1].result.ok());
}

TEST(ZmqCollective, OperationsOfAnotherStreamAreIgnored) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 2, 0);
  Collective* root = ranks[0].get();
  Collective* member = ranks[1].get();
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] { return AllJoined(Pointers(ranks)); }));
  // A grant of an old attempt must not count for the new one.
  ASSERT_TRUE(member->Begin(TestStream(1, 1)).ok());
  ASSERT_TRUE(member->Grant(Sequence(0)).ok());
  ASSERT_TRUE(root->Begin(TestStream(1, 2)).ok());
  for (int k = 0; k < 50; ++k) {
    ASSERT_TRUE(root->Poll(Milliseconds(1)).ok());
    ASSERT_TRUE(member->Poll(Milliseconds(1)).ok());
    ASSERT_FALSE(*root->Ready(Sequence(0)));
  }
  // A grant that is ahead of the root's Begin does count.
  ASSERT_TRUE(member->Begin(TestStream(1, 3)).ok());
  ASSERT_TRUE(member->Grant(Sequence(0)).ok());
  for (int k = 0; k < 10; ++k) ASSERT_TRUE(root->Poll(Milliseconds(1)).ok());
  ASSERT_TRUE(root->Begin(TestStream(1, 3)).ok());
  EXPECT_TRUE(PollUntil(Pointers(ranks), [&] { return *root->Ready(Sequence(0)); }));
}

TEST(ZmqCollective, PlansThatDifferAreRefusedOnAllRanks) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 2, 0);
  StreamId stream = TestStream();
  stream.plan_digest = {1, 2};
  ASSERT_TRUE(ranks[0]->Begin(stream).ok());
  stream.plan_digest = {1, 3};
  ASSERT_TRUE(ranks[1]->Begin(stream).ok());
  Status status;
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] {
    status = ranks[0]->Ready(Sequence(0)).status();
    return !status.ok();
  }));
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("the plan of rank 1 (node-1)"));
}

TEST(ZmqCollective, WrongTokenRankOrGenerationDoesNotGetIn) {
  const auto transport = SmallChunks();
  JoinOptions options{.rendezvous = transport->MakeRendezvous(GenerationId(9)).value(),
                      .size = 2,
                      .generation = GenerationId(9),
                      .deadline = In(Milliseconds(300))};
  const auto root = transport->Join(options).value();
  options.rank = 1;
  JoinOptions wrong_token = options;
  auto blob = zmq_bulk::DecodeBlob(options.rendezvous.blob).value();
  ++blob.token.lo;
  wrong_token.rendezvous.blob = zmq_bulk::EncodeBlob(blob);
  JoinOptions wrong_generation = options;
  wrong_generation.generation = GenerationId(8);
  JoinOptions wrong_size = options;
  wrong_size.size = 3;
  wrong_size.rank = 2;
  std::vector<std::unique_ptr<Collective>> strangers;
  std::vector<Collective*> all = {root.get()};
  for (const JoinOptions& wrong : {wrong_token, wrong_generation, wrong_size}) {
    strangers.push_back(transport->Join(wrong).value());
    all.push_back(strangers.back().get());
  }
  Status status;
  ASSERT_TRUE(PollUntil(all, [&] {
    for (const auto& stranger : strangers) {
      const auto joined = stranger->Joined();
      EXPECT_FALSE(joined.ok() && *joined);
    }
    status = root->Joined().status();
    return !status.ok();
  }));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("have not joined: rank 1"));
}

TEST(ZmqCollective, SecondHelloOfARankIsIgnored) {
  const auto transport = SmallChunks();
  JoinOptions options{.rendezvous = transport->MakeRendezvous(GenerationId(4)).value(),
                      .size = 2,
                      .generation = GenerationId(4)};
  const auto root = transport->Join(options).value();
  options.rank = 1;
  const auto first = transport->Join(options).value();
  ASSERT_TRUE(PollUntil({root.get(), first.get()}, [&] {
    return AllJoined({root.get(), first.get()});
  }));
  options.deadline = In(Milliseconds(100));
  const auto second = transport->Join(options).value();
  Status status;
  ASSERT_TRUE(PollUntil({root.get(), first.get(), second.get()}, [&] {
    const auto joined = second->Joined();
    EXPECT_FALSE(joined.ok() && *joined);
    status = joined.status();
    return !status.ok();
  }));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(*first->Joined());
}

// A broadcast whose consumer on rank 2 stops for good at its second buffer, by `stop`.
void StopInMidStream(const std::function<void(Collective*)>& stop, const std::string& reason) {
  const auto transport = SmallChunks();
  auto ranks = testing::JoinAll(transport.get(), 3, 0);
  BeginAll(ranks, TestStream());
  std::mt19937_64 rng(1);
  const std::vector<TestTensor> tensors = {
      testing::MakeTensor("big", Dtype::kF32, {1 << 20}, &rng)};
  std::vector<Status> statuses(3);
  std::vector<std::thread> threads;
  for (uint32_t rank : {1u, 2u}) {
    threads.emplace_back([&, rank] {
      const auto rows = RowsOf(testing::RowsIn(tensors));
      int buffers = 0;
      auto consumer = PackedConsumer::Make(ranks[rank].get(), rows.get(), SmallBuffers(),
                                           [&](std::span<const UnpackedRegion>) {
                                             if (rank == 2 && ++buffers == 2) {
                                               stop(ranks[2].get());
                                               return Internal("stopped by the test");
                                             }
                                             return OkStatus();
                                           });
      statuses[rank] = (*consumer)->Run(In(Seconds(60))).status();
    });
  }
  uint64_t released = 0;
  auto views = testing::ViewsOf(tensors);
  views[0].release = [&released] { ++released; };
  const auto source = SourceOf(std::move(views));
  auto producer = PackedProducer::Make(ranks[0].get(), source.get(), SmallBuffers()).value();
  statuses[0] = producer->Run(In(Seconds(60))).status();
  EXPECT_EQ(released, 1u);
  for (std::thread& thread : threads) thread.join();
  ExpectRankGaveUp(statuses[0], "rank 2 (node-2)", reason);
  EXPECT_FALSE(statuses[1].ok());
  for (const auto& rank : ranks) {
    EXPECT_EQ(rank->Poll(Duration::zero()).code(), StatusCode::kAborted);
    EXPECT_TRUE(rank->Abort("again").ok());
  }
}

TEST(ZmqCollective, AbortOfAMemberInMidStreamReachesTheRootWithItsReason) {
  StopInMidStream([](Collective*) {}, "stopped by the test");
}

TEST(ZmqCollective, AbortFromAnotherThreadStopsAMember) {
  StopInMidStream(
      [](Collective* member) {
        std::thread([member] { EXPECT_TRUE(member->Abort("told to").ok()); }).join();
      },
      "told to");
}

TEST(ZmqCollective, VanishedMemberIsNoticedAndNamed) {
  const auto transport = SmallChunks();
  const auto other = SmallChunks();  // the member's own context, as in another process
  JoinOptions options{.rendezvous = transport->MakeRendezvous(GenerationId(1)).value(),
                      .size = 2,
                      .generation = GenerationId(1),
                      .names = {"trainer", "worker"}};
  const auto root = transport->Join(options).value();
  options.rank = 1;
  auto member = other->Join(options).value();
  std::vector<Collective*> both = {root.get(), member.get()};
  ASSERT_TRUE(PollUntil(both, [&] { return AllJoined(both); }));
  ASSERT_TRUE(root->Begin(TestStream()).ok());
  member.reset();  // not begun: leaves without a word
  Status status;
  ASSERT_TRUE(PollUntil({root.get()}, [&] {
    status = root->Poll(Milliseconds(5));
    return !status.ok();
  }));
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("rank 1 (worker)"));
  EXPECT_EQ(root->culprit(), 1u);
}

TEST(ZmqCollective, VanishedRootIsNoticedAndNamed) {
  const auto transport = SmallChunks();
  auto ranks = testing::JoinAll(transport.get(), 2, 0);
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] { return AllJoined(Pointers(ranks)); }));
  ASSERT_TRUE(ranks[1]->Begin(TestStream()).ok());
  ASSERT_TRUE(ranks[1]->Grant(Sequence(0)).ok());
  ranks[0].reset();
  Status status;
  ASSERT_TRUE(PollUntil({ranks[1].get()}, [&] {
    status = ranks[1]->Poll(Milliseconds(5));
    return !status.ok();
  }));
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_THAT(status.message(), HasSubstr("rank 0 (node-0), the root"));
}

TEST(ZmqCollective, SlowMemberHoldsTheRootBackAndNotTheOtherMember) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 3, 0);
  BeginAll(ranks, TestStream());
  constexpr uint64_t kStep = 64 * kChunk;
  std::vector<std::byte> buffer(kStep, std::byte{7});
  std::vector<std::byte> fast(kStep);
  std::vector<std::byte> slow(kStep);
  for (size_t rank : {1, 2}) ASSERT_TRUE(ranks[rank]->Grant(Sequence(0)).ok());
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] { return *ranks[0]->Ready(Sequence(0)); }));
  ASSERT_TRUE(ranks[0]->Launch({Sequence(0), {{buffer.data(), kStep}}, 0, 1}).ok());
  // Rank 2 does not launch: its chunks stay on the way, and rank 1 gets all of its own.
  std::vector<Collective*> quick = {ranks[0].get(), ranks[1].get()};
  bool launched = false;
  ASSERT_TRUE(PollUntil(quick, [&] {
    if (!launched && *ranks[1]->Ready(Sequence(0))) {
      launched = ranks[1]->Launch({Sequence(0), {{fast.data(), kStep}}, 0, 1}).ok();
    }
    return launched && *ranks[1]->Done(Sequence(0));
  }));
  EXPECT_EQ(fast, buffer);
  // The next step waits for the slow one's grant, so the root never runs ahead.
  ASSERT_TRUE(ranks[1]->Grant(Sequence(1)).ok());
  for (int k = 0; k < 20; ++k) {
    for (Collective* rank : quick) ASSERT_TRUE(rank->Poll(Milliseconds(1)).ok());
    ASSERT_FALSE(*ranks[0]->Ready(Sequence(1)));
  }
  EXPECT_THAT(ranks[0]->WaitingFor(), HasSubstr("rank 2 (node-2)"));
  EXPECT_EQ(ranks[0]->Late(), std::vector<uint32_t>{2});
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] { return *ranks[2]->Ready(Sequence(0)); }));
  ASSERT_TRUE(ranks[2]->Launch({Sequence(0), {{slow.data(), kStep}}, 0, 1}).ok());
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] {
    return *ranks[2]->Done(Sequence(0)) && *ranks[0]->Done(Sequence(0));
  }));
  EXPECT_EQ(slow, buffer);
}

// S9: the member does not read, so ZeroMQ holds chunks of the buffer when the root aborts.
TEST(ZmqCollective, AbortOfTheRootInMidStreamGivesItsMemoryBack) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 2, 0);
  BeginAll(ranks, TestStream());
  std::vector<std::byte> from(64 << 20);
  std::vector<std::byte> to(64 << 20);
  ASSERT_TRUE(ranks[1]->Grant(Sequence(0)).ok());
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] { return *ranks[0]->Ready(Sequence(0)); }));
  ASSERT_TRUE(ranks[0]->Launch({Sequence(0), {{from.data(), from.size()}}, 0, 1}).ok());
  // Far more than the kernel's buffers take: the root gets stuck.
  for (int k = 0; k < 200; ++k) ASSERT_TRUE(ranks[0]->Poll(Milliseconds(1)).ok());
  ASSERT_FALSE(*ranks[0]->Done(Sequence(0)));
  ASSERT_TRUE(ranks[0]->Abort("enough").ok());
  std::fill(from.begin(), from.end(), std::byte{1});
  std::vector<std::byte>().swap(from);  // a use after free, if anybody still read
  EXPECT_EQ(ranks[0]->Ready(Sequence(1)).status().code(), StatusCode::kAborted);
  Status status;
  bool launched = false;
  ASSERT_TRUE(PollUntil({}, [&] {
    const auto ready = ranks[1]->Ready(Sequence(0));
    if (ready.ok() && *ready && !launched) {
      launched = ranks[1]->Launch({Sequence(0), {{to.data(), to.size()}}, 0, 1}).ok();
    }
    status = ranks[1]->Poll(Milliseconds(1));
    return !status.ok();
  }));
  ExpectRankGaveUp(status, "rank 0 (node-0)", "enough");
  EXPECT_TRUE(std::all_of(to.begin(), to.end(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST(ZmqCollective, DeadlineNamesTheRankAndWhatWasWaitedFor) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 2, 0);
  ASSERT_TRUE(PollUntil(Pointers(ranks), [&] { return AllJoined(Pointers(ranks)); }));
  ASSERT_TRUE(ranks[0]->Begin(TestStream()).ok());
  const auto tensors = SizesAroundChunks();
  const auto source = SourceOf(testing::ViewsOf(tensors));
  auto producer = PackedProducer::Make(ranks[0].get(), source.get(), SmallBuffers()).value();
  const Status status = producer->Run(In(Milliseconds(50))).status();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("a grant of step 0 by rank 1 (node-1)"));
}

TEST(ZmqCollective, CancelFromAnotherThreadEndsARunAtOnce) {
  const auto transport = SmallChunks();
  const auto ranks = testing::JoinAll(transport.get(), 2, 0);
  BeginAll({}, TestStream());
  ASSERT_TRUE(ranks[1]->Begin(TestStream()).ok());
  CancelToken cancel;
  std::atomic<uint64_t> beats{0};
  auto run = std::async(std::launch::async, [&] {
    const auto rows = RowsOf({});
    auto consumer = PackedConsumer::Make(ranks[1].get(), rows.get(), SmallBuffers(), nullptr);
    return (*consumer)->Run(Time::max(), &cancel, &beats).status();
  });
  while (beats.load() < 2) std::this_thread::yield();
  cancel.Cancel(Aborted("the coordinator said so"));
  EXPECT_EQ(run.get(), Aborted("the coordinator said so"));
}

TEST(ZmqWire, HeadersOfAnotherShapeAreRefused) {
  using zmq_bulk::Header;
  const Header header{zmq_bulk::Type::kGate, 3, {1, 2}, 4, 5, 6, zmq_bulk::kUnsealed};
  std::string text = zmq_bulk::EncodeHeader(header);
  ASSERT_EQ(text.size(), zmq_bulk::kHeaderBytes);
  const auto bytes = [&text] { return std::as_bytes(std::span(text)); };
  Header got;
  ASSERT_TRUE(zmq_bulk::DecodeHeader(bytes(), &got));
  EXPECT_EQ(got.extra, 3u);
  EXPECT_EQ(got.tag, (Digest{1, 2}));
  EXPECT_EQ(got.b, 6u);
  EXPECT_EQ(got.flags, zmq_bulk::kUnsealed);
  EXPECT_FALSE(zmq_bulk::DecodeHeader(bytes().first(47), &got));
  text[0] = 13;
  EXPECT_FALSE(zmq_bulk::DecodeHeader(bytes(), &got));
  text[0] = 1;
  text[1] = 2;
  EXPECT_FALSE(zmq_bulk::DecodeHeader(bytes(), &got));
}

TEST(ZmqWire, BlobErrorsDoNotShowTheSecret) {
  const Bytes blob = zmq_bulk::EncodeBlob({"tcp://127.0.0.1:5", zmq_bulk::RandomToken()});
  EXPECT_EQ(zmq_bulk::DecodeBlob(blob)->endpoint, "tcp://127.0.0.1:5");
  EXPECT_EQ(zmq_bulk::DecodeBlob(Bytes(3)).status().message(),
            "the rendezvous of kind \"zmq\" is malformed");
}

}  // namespace
}  // namespace packcast
