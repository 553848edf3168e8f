#include "actors/source_pump.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/messages.h"

namespace packcast {
namespace {

// What a cursor that does not say otherwise may have entered (Cursor::bytes_ahead).
constexpr uint64_t kBytesAhead = uint64_t{256} << 20;

// A source of equal rows whose cursor writes down what is asked of it.
struct Script {
  size_t groups = 4;
  size_t rows_per_group = 1;
  int64_t row_bytes = 16;
  std::optional<size_t> fails_at;  // group
  std::function<void()> on_next;   // inside the source
  bool opens = true;
  bool out_of_range = false;

  std::vector<uint64_t> entered;
  std::vector<uint64_t> released;
  std::optional<uint64_t> stopped_at;
};

class FakeCursor : public Cursor {
 public:
  explicit FakeCursor(Script* script) : script_(script) {}
  StatusOr<TensorGroup> Next() override {
    if (script_->on_next) script_->on_next();
    if (script_->fails_at == next_) return DataLoss("the disk is gone");
    TensorGroup group;
    if (next_ == script_->groups) return group;
    group.id = next_;
    for (size_t k = 0; k < script_->rows_per_group; ++k) {
      SourceTensor tensor;
      tensor.row = static_cast<uint32_t>(next_ * script_->rows_per_group + k);
      if (script_->out_of_range) tensor.row = 99;
      group.tensors.push_back(tensor);
    }
    script_->entered.push_back(next_++);
    return group;
  }
  void Release(uint64_t group) override { script_->released.push_back(group); }
  Status StopAt(uint64_t group) override {
    script_->stopped_at = group;
    return OkStatus();
  }

 private:
  Script* const script_;
  uint64_t next_ = 0;
};

class FakeSource : public WeightSource {
 public:
  explicit FakeSource(Script* script) : script_(script) {}
  StatusOr<Manifest> Describe(const SyncRequest&) override {
    std::vector<Row> rows;
    for (size_t k = 0; k < script_->groups * script_->rows_per_group; ++k) {
      rows.push_back({"row." + std::to_string(k), Dtype::kU8, {script_->row_bytes}, "", 0, {}});
    }
    return Manifest::Make(std::move(rows));
  }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo&) override {
    if (!script_->opens) return Unavailable("not now");
    return std::unique_ptr<Cursor>(std::make_unique<FakeCursor>(script_));
  }

 private:
  Script* const script_;
};

class SourcePumpTest : public ::testing::Test {
 protected:
  void Open(bool sends = true, size_t readers = 1) {
    pump_.Reset(readers);
    pump_.Open(&source_, EpochInfo{},
               std::make_shared<const Manifest>(source_.Describe({}).value()), sends);
  }
  void TurnUntilIdle() {
    while (pump_.Turn()) {
    }
  }
  // The next tensor on the data thread, which must be there without waiting.
  NamedTensor Take(size_t reader = 0) {
    auto tensor = pump_.tensors(reader)->Next();
    EXPECT_TRUE(tensor.ok() && tensor->has_value());
    return std::move(**tensor);
  }

  Script script_;
  FakeSource source_{&script_};
  std::atomic<int> wakes_{0};
  SourcePump pump_{[this] { ++wakes_; }};
};

TEST_F(SourcePumpTest, CarriesTensorsInOrderAndReleasesThem) {
  Open();
  TurnUntilIdle();
  for (uint64_t k = 0; k < script_.groups; ++k) {
    const NamedTensor tensor = Take();
    EXPECT_EQ(tensor.name, "row." + std::to_string(k));
    tensor.release();
    EXPECT_EQ(wakes_, 1) << "it takes all that are there";
  }
  EXPECT_TRUE(script_.released.empty()) << "released on the caller's thread only";
  EXPECT_EQ(pump_.tensors(0)->Next().value(), std::nullopt);
  TurnUntilIdle();
  EXPECT_EQ(script_.released, (std::vector<uint64_t>{0, 1, 2, 3}));
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
  EXPECT_EQ(script_.released.size(), 4u) << "each once";
  EXPECT_EQ(script_.stopped_at, std::nullopt) << "it walked to the end by itself";
}

TEST_F(SourcePumpTest, AGroupIsReleasedWithItsLastTensor) {
  script_.groups = 2;
  script_.rows_per_group = 3;
  Open();
  TurnUntilIdle();
  const NamedTensor first = Take(), second = Take(), third = Take();
  third.release();
  first.release();
  TurnUntilIdle();
  EXPECT_TRUE(script_.released.empty());
  EXPECT_EQ(wakes_, 0);
  second.release();
  TurnUntilIdle();
  EXPECT_EQ(script_.released, (std::vector<uint64_t>{0}));
}

TEST_F(SourcePumpTest, StaysWithinTheNumberOfGroups) {
  script_.groups = SourcePump::kGroupsAhead * 2;
  Open();
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), SourcePump::kGroupsAhead);
  EXPECT_FALSE(pump_.Turn());
  Take().release();
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), SourcePump::kGroupsAhead + 1);
}

TEST_F(SourcePumpTest, StaysWithinTheBytesButOneGroupMayAlwaysBe) {
  script_.row_bytes = kBytesAhead * 2;
  Open();
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), 1u);
  const NamedTensor tensor = Take();
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), 1u) << "taken is not released";
  tensor.release();
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), 2u);
}

TEST_F(SourcePumpTest, EveryReaderGetsAllAndAGroupIsReleasedWithTheLast) {
  script_.rows_per_group = 2;
  Open(true, 2);
  TurnUntilIdle();
  for (uint64_t k = 0; k < script_.groups; ++k) {
    auto batch = pump_.batches(1)->Next().value();
    ASSERT_EQ(batch->tensors.size(), 2u);
    batch->release();
    TurnUntilIdle();
    EXPECT_EQ(script_.released.size(), k) << "the other reader still has it";
    for (int row = 0; row < 2; ++row) {
      const NamedTensor tensor = Take(0);
      EXPECT_EQ(tensor.name, "row." + std::to_string(2 * k + static_cast<uint64_t>(row)));
      tensor.release();
    }
    TurnUntilIdle();
    EXPECT_EQ(script_.released.size(), k + 1);
  }
  EXPECT_EQ(pump_.batches(1)->Next().value(), std::nullopt);
  EXPECT_EQ(pump_.tensors(0)->Next().value(), std::nullopt);
}

TEST_F(SourcePumpTest, OneMoreGroupComesOnlyWhenAllReadersAreStarved) {
  script_.row_bytes = kBytesAhead * 2;
  Open(true, 2);
  TurnUntilIdle();
  const NamedTensor ahead = Take(0);
  EXPECT_FALSE(pump_.tensors(0)->Ready());
  EXPECT_EQ(wakes_, 0);
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), 1u) << "the other reader has not even taken the first";
  const NamedTensor behind = Take(1);
  EXPECT_FALSE(pump_.tensors(1)->Ready());
  EXPECT_EQ(wakes_, 1);
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), 2u);
  EXPECT_TRUE(pump_.tensors(0)->Ready());
  EXPECT_TRUE(pump_.tensors(1)->Ready());
}

TEST_F(SourcePumpTest, ARankThatKeepsPaceEntersAndReleasesAll) {
  script_.groups = SourcePump::kGroupsAhead * 2;
  Open(false);
  EXPECT_EQ(pump_.idle_end(), std::nullopt);
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), script_.groups);
  EXPECT_EQ(script_.released, script_.entered);
  ASSERT_TRUE(pump_.idle_end().has_value());
  EXPECT_TRUE(pump_.idle_end()->ok());
}

TEST_F(SourcePumpTest, ErrorsOfTheSourceReachTheDataThread) {
  script_.fails_at = 1;
  Open();
  TurnUntilIdle();
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kDataLoss)
      << "and all later ones";
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
  EXPECT_EQ(script_.released, (std::vector<uint64_t>{0}));
  EXPECT_EQ(script_.stopped_at, 0u);
}

TEST_F(SourcePumpTest, ASourceThatDoesNotOpenFailsTheNext) {
  script_.opens = false;
  Open();
  EXPECT_FALSE(pump_.Turn());
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
}

TEST_F(SourcePumpTest, ASourceThatDoesNotOpenFailsARankThatKeepsPace) {
  script_.opens = false;
  Open(false);
  EXPECT_EQ(pump_.idle_end()->code(), StatusCode::kUnavailable);
}

TEST_F(SourcePumpTest, RefusesRowsThatAreNotInTheManifest) {
  script_.out_of_range = true;
  Open();
  TurnUntilIdle();
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kInvalidArgument);
}

TEST_F(SourcePumpTest, HaltStopsAndNamesTheLastGroup) {
  Open();
  EXPECT_EQ(pump_.Halt(), std::nullopt) << "nothing was entered";
  EXPECT_FALSE(pump_.Turn());
  EXPECT_TRUE(script_.entered.empty());

  Open();
  EXPECT_TRUE(pump_.Turn());
  EXPECT_TRUE(pump_.Turn());
  EXPECT_EQ(pump_.Halt(), 1u);
  EXPECT_FALSE(pump_.Turn());
  EXPECT_EQ(script_.entered.size(), 2u);
}

// There it may wait for ranks that were halted before the group, until they are told to enter it.
TEST_F(SourcePumpTest, HaltNamesTheGroupThatIsBeingEntered) {
  std::optional<uint64_t> halted;
  Open();
  EXPECT_TRUE(pump_.Turn());
  script_.on_next = [&] {
    std::thread other([&] { halted = pump_.Halt(); });
    other.join();
  };
  (void)pump_.Turn();
  EXPECT_EQ(halted, 1u);
  EXPECT_EQ(script_.entered.size(), 2u);
  EXPECT_FALSE(pump_.Turn());
  EXPECT_EQ(script_.entered.size(), 2u) << "and no other";
}

TEST_F(SourcePumpTest, HaltDoesNotTakeTheEndForAGroup) {
  for (const bool sends : {true, false}) {
    script_.on_next = nullptr;
    Open(sends);
    for (size_t k = 0; k < script_.groups; ++k) EXPECT_TRUE(pump_.Turn());
    std::optional<uint64_t> halted;
    script_.on_next = [&] { halted = pump_.Halt(); };
    EXPECT_FALSE(pump_.Turn());
    EXPECT_EQ(halted, script_.groups - 1);
  }
}

TEST_F(SourcePumpTest, OneThatIsHaltedBeforeItBeginsEntersNothing) {
  pump_.Reset(1);
  EXPECT_EQ(pump_.Halt(), std::nullopt);
  pump_.Open(&source_, EpochInfo{}, std::make_shared<const Manifest>(source_.Describe({}).value()),
             true);
  EXPECT_FALSE(pump_.Turn());
  EXPECT_TRUE(script_.entered.empty());
  EXPECT_TRUE(pump_.Close(2).ok());
  EXPECT_EQ(script_.stopped_at, 2u) << "where others have come to";
}

TEST_F(SourcePumpTest, CloseWalksToTheEndIfThereIsNoSuchGroup) {
  Open();
  pump_.Turn();
  pump_.Halt();
  EXPECT_TRUE(pump_.Close(kAllGroups).ok());
  EXPECT_EQ(script_.entered, (std::vector<uint64_t>{0, 1, 2, 3}));
  EXPECT_EQ(script_.released, script_.entered);
  EXPECT_EQ(script_.stopped_at, std::nullopt);

  Open();
  TurnUntilIdle();
  EXPECT_TRUE(pump_.Close(kAllGroups).ok());
  EXPECT_EQ(script_.entered.size(), 2 * script_.groups) << "it was there by itself";
}

TEST_F(SourcePumpTest, ASourceThatFailedIsNotWalkedAnyFurther) {
  script_.fails_at = 2;
  Open();
  TurnUntilIdle();
  EXPECT_TRUE(pump_.Close(kAllGroups).ok());
  EXPECT_EQ(script_.stopped_at, 1u);
}

TEST_F(SourcePumpTest, CloseDrainsToTheGroupThatItIsTold) {
  Open();
  pump_.Turn();
  pump_.Turn();
  pump_.Halt();
  EXPECT_TRUE(pump_.Close(3).ok());
  EXPECT_EQ(script_.released, (std::vector<uint64_t>{0, 1}));
  EXPECT_EQ(script_.stopped_at, 3u);
  EXPECT_TRUE(pump_.Close(3).ok()) << "again does nothing";
}

TEST_F(SourcePumpTest, CloseWithoutAGroupDrainsToTheLastOneEntered) {
  Open();
  pump_.Turn();
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
  EXPECT_EQ(script_.stopped_at, 0u);

  script_.stopped_at.reset();
  Open();
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
  EXPECT_EQ(script_.stopped_at, std::nullopt) << "nothing was entered";
}

TEST_F(SourcePumpTest, ReleasesThatComeAfterCloseDoNothing) {
  Open();
  pump_.Turn();
  const NamedTensor tensor = Take();
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
  tensor.release();
  EXPECT_FALSE(pump_.Turn());
  EXPECT_EQ(script_.released, (std::vector<uint64_t>{0}));
}

// A rank that keeps pace would take it for the end of the next walk, which has not begun.
TEST_F(SourcePumpTest, CloseForgetsTheEndOfTheWalk) {
  Open(false);
  TurnUntilIdle();
  EXPECT_EQ(pump_.idle_end(), OkStatus());
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
  EXPECT_EQ(pump_.idle_end(), std::nullopt);
  pump_.Reset();
  EXPECT_FALSE(pump_.Turn());
  EXPECT_EQ(pump_.idle_end(), std::nullopt) << "until it is opened and walked again";
  EXPECT_EQ(script_.stopped_at, std::nullopt) << "it walked to the end by itself";
}

TEST_F(SourcePumpTest, NextNeverWaitsAndAnyChangeWakesTheReader) {
  script_.groups = 1;
  Open();
  int woken = 0;
  pump_.tensors(0)->SetWake([&woken] { ++woken; });
  EXPECT_FALSE(pump_.tensors(0)->Ready());
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(pump_.Turn());
  EXPECT_EQ(woken, 1) << "a group";
  EXPECT_TRUE(pump_.tensors(0)->Ready());
  Take();
  EXPECT_FALSE(pump_.tensors(0)->Ready());
  EXPECT_FALSE(pump_.Turn());
  EXPECT_EQ(woken, 2) << "the end";
  EXPECT_TRUE(pump_.tensors(0)->Ready());
  pump_.Cancel(Aborted("given up"));
  EXPECT_EQ(woken, 3);
  pump_.tensors(0)->SetWake(nullptr);
  pump_.Cancel(Aborted("again"));
  EXPECT_EQ(woken, 3);
}

// A direct step that is not full yet may hold more than the bound: both sides waited.
TEST_F(SourcePumpTest, AReaderThatHasTakenAllGetsOneMoreGroup) {
  script_.row_bytes = kBytesAhead * 2;
  Open();
  TurnUntilIdle();
  const NamedTensor first = Take();
  EXPECT_EQ(wakes_, 0);
  EXPECT_FALSE(pump_.tensors(0)->Ready());
  EXPECT_EQ(wakes_, 1) << "the caller's thread sleeps";
  EXPECT_FALSE(pump_.tensors(0)->Ready());
  EXPECT_EQ(wakes_, 1) << "once is enough";
  TurnUntilIdle();
  EXPECT_EQ(script_.entered.size(), 2u);
  const NamedTensor second = Take();
  EXPECT_EQ(script_.entered.size(), 2u);
}

TEST_F(SourcePumpTest, CancelFailsTheNextAndAllLaterOnes) {
  Open();
  EXPECT_FALSE(pump_.tensors(0)->Ready());
  pump_.Cancel(Aborted("given up"));
  EXPECT_TRUE(pump_.tensors(0)->Ready());
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kAborted);
  EXPECT_FALSE(pump_.Turn()) << "no group is entered for nobody";
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kAborted);
  EXPECT_TRUE(script_.entered.empty());
  EXPECT_TRUE(pump_.Close(std::nullopt).ok());
  Open();
  TurnUntilIdle();
  EXPECT_TRUE(pump_.tensors(0)->Next().ok()) << "until the next attempt";
}

TEST_F(SourcePumpTest, TheFirstErrorIsKept) {
  Open();
  pump_.Cancel(Cancelled("first"));
  pump_.Cancel(Aborted("second"));
  EXPECT_EQ(pump_.tensors(0)->Next().status().code(), StatusCode::kCancelled);
}

TEST_F(SourcePumpTest, TwoThreadsMoveManyGroups) {
  script_.groups = 3000;
  script_.rows_per_group = 2;
  Open();
  std::atomic<bool> done{false};
  size_t taken = 0;
  std::thread data([&] {
    while (true) {
      if (!pump_.tensors(0)->Ready()) continue;
      auto tensor = pump_.tensors(0)->Next();
      ASSERT_TRUE(tensor.ok());
      if (!tensor->has_value()) break;
      EXPECT_EQ((*tensor)->name, "row." + std::to_string(taken++));
      (*tensor)->release();
    }
    done = true;
  });
  while (!done) {
    if (!pump_.Turn()) std::this_thread::yield();
  }
  data.join();
  TurnUntilIdle();
  EXPECT_EQ(taken, 6000u);
  EXPECT_EQ(script_.released, script_.entered);
  EXPECT_EQ(script_.released.size(), 3000u);
}

}  // namespace
}  // namespace packcast
