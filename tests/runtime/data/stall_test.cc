// A root whose bytes one rank does not take gives that rank up, and nobody else.
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using testing::Collector;
using ::testing::HasSubstr;
using testing::In;
using testing::TestTensor;

constexpr Duration kPatience = Seconds(30);

// Gives its first row only when it is told to.
class HeldSource : public TensorSource {
 public:
  explicit HeldSource(std::unique_ptr<TensorSource> behind) : behind_(std::move(behind)) {}
  StatusOr<std::optional<NamedTensor>> Next() override { return behind_->Next(); }
  bool Ready() override { return open_.load() && behind_->Ready(); }
  void SetWake(std::function<void()> wake) override { behind_->SetWake(std::move(wake)); }
  void Open() { open_ = true; }

 private:
  const std::unique_ptr<TensorSource> behind_;
  std::atomic<bool> open_{false};
};

// Rank 0 sends to ranks 1 and 2.
class Stall : public ::testing::Test {
 protected:
  Stall() : transport_(MakeLocalTransport()) {
    ranks_ = testing::JoinAll(transport_.get(), 3, 0);
    testing::BeginAll(ranks_, testing::TestStream());
    options_.plan.buffer_bytes = 1024;
    tensors_.push_back(testing::MakeTensor("rows", Dtype::kU8, {5000}, &rng_));
    source_ = std::make_unique<HeldSource>(SourceOf(testing::ViewsOf(tensors_)));
  }

  // Runs a consumer on a thread of its own until the stream's end.
  void Receive(uint32_t rank) {
    receivers_.emplace_back([this, rank] {
      Collector collector(tensors_);
      const auto rows = RowsOf(testing::RowsIn(tensors_));
      const auto consumer = PackedConsumer::Make(ranks_[rank].get(), rows.get(), options_,
                                                 collector.callback(), nullptr)
                                .value();
      CancelToken cancel;
      (void)consumer->Run(In(kPatience), &cancel, nullptr);
    });
  }
  Status Send(Duration stall, Time stall_from = {}) {
    BroadcastOptions options = options_;
    options.stall = stall;
    options.stall_from = stall_from;
    options.put_off_until = &put_off_until_;
    const auto producer = PackedProducer::Make(ranks_[0].get(), source_.get(), options, {}).value();
    CancelToken cancel;
    return producer->Run(In(kPatience), &cancel, nullptr).status();
  }
  BroadcastOptions PutOff() const {
    BroadcastOptions options = options_;
    options.put_off_until = &put_off_until_;
    return options;
  }
  void TearDown() override {
    for (std::thread& receiver : receivers_) receiver.join();
  }

  std::atomic<Time::rep> put_off_until_{0};
  std::mt19937_64 rng_{42};
  std::unique_ptr<Transport> transport_;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::vector<TestTensor> tensors_;
  BroadcastOptions options_;
  std::unique_ptr<HeldSource> source_;
  std::vector<std::thread> receivers_;
};

TEST_F(Stall, WhoTakesNothingIsGivenUp) {
  source_->Open();
  Receive(1);
  const Status status = Send(Milliseconds(50));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("could not go on for 50 ms, waiting for a grant of"));
  EXPECT_EQ(ranks_[0]->culprit(), 2u);
}

TEST_F(Stall, NobodyIsGivenUpForASlowSource) {
  Receive(1);
  Receive(2);
  // Longer than the stall, as far as this machine's clock goes: a slower one cannot fail it.
  std::thread later([this] {
    const Time end = In(Milliseconds(200));
    while (In(Duration::zero()) < end) std::this_thread::yield();
    source_->Open();
  });
  EXPECT_EQ(Send(Milliseconds(20)), OkStatus());
  EXPECT_EQ(ranks_[0]->culprit(), std::nullopt);
  later.join();
}

TEST_F(Stall, TheTimeThatOthersMayTakeToBeginDoesNotCount) {
  source_->Open();
  Receive(1);
  const Time begin = In(Duration::zero());
  EXPECT_EQ(Send(Milliseconds(1), begin + Milliseconds(100)).code(), StatusCode::kDeadlineExceeded);
  EXPECT_GE(In(Duration::zero()), begin + Milliseconds(101));
}

// It said so: the time is put off while the root waits already.
TEST_F(Stall, WhoIsBusyIsWaitedForUntilThen) {
  source_->Open();
  Receive(1);
  const Time until = In(Milliseconds(150));
  put_off_until_ = until.time_since_epoch().count();
  EXPECT_EQ(Send(Milliseconds(1)).code(), StatusCode::kDeadlineExceeded);
  EXPECT_GE(In(Duration::zero()), until + Milliseconds(1));
  EXPECT_EQ(ranks_[0]->culprit(), 2u);
}

TEST_F(Stall, ThenTheDeadlineCountsFromThereToo) {
  Receive(1);
  const Time until = In(Milliseconds(150));
  put_off_until_ = until.time_since_epoch().count();
  const auto producer = PackedProducer::Make(ranks_[0].get(), source_.get(), PutOff(), {}).value();
  CancelToken cancel;
  const Status status = producer->Run(In(Milliseconds(1)), &cancel, nullptr).status();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_GE(In(Duration::zero()), until);
}

}  // namespace
}  // namespace packcast
