// Bytes that the trainer's own stream is still making: what packcast reads waits for the batch's
// event, and a batch that was released may be overwritten at once.

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/base/clock.h"
#include "tests/gpu/device_case.h"
#include "tests/gpu/exchange.h"
#include "tests/gpu/forwarding.h"
#include "tests/gpu/two_ranks.h"
#include "tests/gpu/world.h"

namespace packcast {
namespace {

using testing::Arena;
using testing::CallerStream;
using testing::CountingEngine;
using testing::DeviceCase;
using testing::Exchange;
using testing::Link;
using testing::Outcome;
using testing::TestTensor;
using testing::TheWorld;

enum class Kind { kPacked, kDirect, kConverted };

std::string NameOf(const ::testing::TestParamInfo<Kind>& info) {
  switch (info.param) {
    case Kind::kPacked: return "Packed";
    case Kind::kDirect: return "Direct";
    case Kind::kConverted: return "Converted";
  }
  return "";
}

constexpr std::byte kStale{0x3c};

// Rows of one kind, of odd sizes. `direct_regions`: of a step.
DeviceCase RowsOfKind(Kind kind, uint32_t rows, uint32_t direct_regions) {
  std::mt19937_64 rng(11);
  std::vector<TestTensor> tensors;
  PlanOptions plan{.buffer_bytes = 256 << 10, .direct_regions_per_step = direct_regions};
  for (uint32_t row = 0; row < rows; ++row) {
    const std::string name = "layer." + std::to_string(row);
    tensors.push_back(testing::MakeTensor(name, Dtype::kBF16, {45'001}, &rng));
    if (kind == Kind::kConverted) testing::MakeConverted(&tensors.back(), &rng);
    if (kind == Kind::kDirect) plan.direct_rows.push_back(row);
  }
  if (kind == Kind::kDirect) plan.direct_bytes_min = 1;
  return testing::PlainCase(std::move(tensors), plan);
}

uint64_t MemoryBytes(const TestTensor& tensor) {
  return tensor.memory.empty() ? tensor.wire.size() : tensor.memory.size();
}

class ReadyEvents : public testing::NeedsWorld, public ::testing::WithParamInterface<Kind> {
 protected:
  static void TearDownTestSuite() { link_.reset(); }
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(NeedsWorld::SetUp());
    if (link_ == nullptr) {
      auto link = Link::Make(TheWorld(), 0);
      ASSERT_TRUE(link.ok()) << link.status();
      link_ = std::move(link).value();
    }
    stream_ = TheWorld()->MakeStream(link_->root());
  }
  // The stream first: to free memory waits for what is behind a gate.
  void TearDown() override {
    stream_.reset();
    exchange_.reset();
    master_.reset();
    if (HasFailure()) link_.reset();  // it may be broken, and that is not the next test's fault
  }
  // The exchange of these rows, whose source's memory the master holds a copy of.
  void Prepare(DeviceCase made) {
    exchange_ = std::make_unique<Exchange>(TheWorld(), link_.get(), std::move(made));
    master_ = std::make_unique<Arena>(memory(), exchange_->source().image());
  }
  Allocator* memory() { return TheWorld()->engine(link_->root())->allocator(); }
  // The rows, not what is between them.
  void MakeSourceStale() {
    std::vector<std::byte> stale = exchange_->source().image();
    for (uint32_t row = 0; row < rows(); ++row) {
      std::fill_n(stale.begin() + exchange_->made().sources[row], BytesOf(row), kStale);
    }
    ASSERT_TRUE(memory()->Copy(stale.data(), exchange_->source().data(), stale.size()).ok());
  }
  uint32_t rows() const { return static_cast<uint32_t>(exchange_->made().tensors.size()); }
  const std::byte* MasterOf(uint32_t row) const {
    return master_->data() + exchange_->made().sources[row];
  }
  uint64_t BytesOf(uint32_t row) const { return MemoryBytes(exchange_->made().tensors[row]); }

  // Has the stream make all rows once its gate opens, each with an event after it. A batch of two
  // rows has the event of its second one.
  std::vector<TensorBatch> MakeRowsBehindAGate() {
    std::vector<void*> events;
    while (events.size() < rows()) events.push_back(stream_->MakeEvent());
    stream_->AddGate();
    std::vector<TensorBatch> batches;
    for (uint32_t row = 0; row < rows(); ++row) {
      if (row % 3 != 1) batches.emplace_back();
      TensorBatch& batch = batches.back();
      batch.tensors.push_back(exchange_->TensorAt(row));
      auto* const to = const_cast<std::byte*>(batch.tensors.back().data);
      stream_->SlowCopy(MasterOf(row), to, BytesOf(row), Milliseconds(1));
      batch.ready = events[row];
      stream_->Record(batch.ready);
    }
    return batches;
  }
  // What the member has when the source's memory is stale all over: the same in all kinds, as
  // 0x3c3c3c3c in F32 is 0x3c3c in BF16.
  void ExpectStale() {
    const std::vector<std::byte> got = exchange_->target().Fetch();
    for (uint32_t row = 0; row < rows(); ++row) {
      const auto begin = got.begin() + exchange_->made().targets[row].parts.front().at;
      const auto count =
          std::count(begin, begin + exchange_->made().tensors[row].wire.size(), kStale);
      EXPECT_EQ(count, exchange_->made().tensors[row].wire.size()) << "row " << row;
    }
  }

  static std::unique_ptr<Link> link_;
  std::unique_ptr<CallerStream> stream_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<Arena> master_;
};

std::unique_ptr<Link> ReadyEvents::link_;

// So that the next test can fail: what does not wait has left before the bytes were made.
TEST_P(ReadyEvents, WithoutThemStaleBytesTravel) {
  Prepare(RowsOfKind(GetParam(), 7, 2));
  MakeSourceStale();
  std::vector<TensorBatch> batches = MakeRowsBehindAGate();
  for (TensorBatch& batch : batches) batch.ready = nullptr;
  const auto source = BatchesOf(std::move(batches));
  const Outcome outcome = exchange_->Run({.source = source.get()});
  EXPECT_TRUE(outcome.sent.ok()) << outcome.sent;
  EXPECT_TRUE(outcome.received.ok()) << outcome.received;
  ExpectStale();
  stream_->OpenGate();
  stream_->Synchronize();
  exchange_->source().ExpectImage("made after all");
}

TEST_P(ReadyEvents, HoldBackWhatReadsTheBytes) {
  Prepare(RowsOfKind(GetParam(), 7, 2));
  MakeSourceStale();
  const auto source = BatchesOf(MakeRowsBehindAGate());
  CountingEngine engine(TheWorld()->engine(link_->root()));
  const CollectiveProgress& sent = link_->end(link_->root())->progress();
  const CollectiveProgress& received = link_->end(link_->member())->progress();
  // A direct step is launched at once where the transport waits for events by itself.
  const bool launches_early =
      GetParam() == Kind::kDirect && link_->end(link_->root())->awaits_ready();
  Exchange::Ways ways{.root_engine = &engine, .source = source.get()};
  ways.meanwhile = [&] {
    // Copies or checksums are asked for, a direct step may even be on its way; nothing is through.
    const Time limit = testing::In(Seconds(5));
    const auto is_under_way = [&] {
      // The counters of the last stream are seen until the next begins.
      return engine.submits() > 0 && received.completed.load() == 0 &&
             (!launches_early || sent.launched.load() > 0);
    };
    while (!is_under_way() && Now() < limit) std::this_thread::yield();
    EXPECT_TRUE(is_under_way());
    EXPECT_EQ(sent.completed.load(), 0u);
    if (!launches_early) {
      EXPECT_EQ(sent.launched.load(), 0u);
    }
    stream_->OpenGate();
  };
  const Outcome outcome = exchange_->Run(ways);
  exchange_->ExpectArrived(outcome);
  stream_->Synchronize();
}

// A source with memory for a few tensors, as one that gathers them one by one has: its stream
// makes a tensor when it is asked for, and overwrites it as soon as it is given back.
class LazySource final : public BatchSource {
 public:
  using MakeBytes = std::function<void(uint32_t row, std::byte* to)>;
  LazySource(Exchange* exchange, CallerStream* stream, Arena* slots, uint64_t slot_bytes,
             bool with_events, MakeBytes make)
      : exchange_(*exchange),
        stream_(*stream),
        slots_(*slots),
        slot_bytes_(slot_bytes),
        with_events_(with_events),
        make_(std::move(make)) {
    for (uint64_t at = 0; at + slot_bytes <= slots->bytes(); at += slot_bytes) {
      free_.push_back(at);
      events_.push_back(stream->MakeEvent());
    }
  }

  bool Ready() override { return !free_.empty() || next_ == exchange_.made().tensors.size(); }
  StatusOr<std::optional<TensorBatch>> Next() override {
    if (next_ == exchange_.made().tensors.size()) return std::optional<TensorBatch>();
    const uint32_t row = next_++;
    const uint64_t at = free_.front();
    free_.erase(free_.begin());
    std::byte* const data = slots_.data() + at;
    void* const event = events_[at / slot_bytes_];
    make_(row, data);
    stream_.Record(event);
    TensorBatch batch;
    batch.tensors.push_back(exchange_.TensorAt(row));
    batch.tensors.back().data = data;
    if (with_events_) batch.ready = event;
    batch.release = [this, at, data] {
      stream_.Fill(data, slot_bytes_, kStale);
      free_.push_back(at);
      ++releases_;
      if (wake_) wake_();
    };
    return std::optional<TensorBatch>(std::move(batch));
  }
  void SetWake(std::function<void()> wake) override { wake_ = std::move(wake); }
  size_t releases() const { return releases_; }

 private:
  Exchange& exchange_;
  CallerStream& stream_;
  Arena& slots_;
  const uint64_t slot_bytes_;
  const bool with_events_;
  const MakeBytes make_;
  std::vector<uint64_t> free_;  // places, the oldest first
  std::vector<void*> events_;   // one for each place
  std::function<void()> wake_;
  uint32_t next_ = 0;
  size_t releases_ = 0;
};

// A member that takes its time before it launches a step: a root that gave a row back too early
// would have it overwritten by then.
class LateCollective final : public testing::ForwardingCollective {
 public:
  using ForwardingCollective::ForwardingCollective;
  StatusOr<bool> Ready(Sequence sequence) override {
    PC_ASSIGN_OR_RETURN(const bool ready, ForwardingCollective::Ready(sequence));
    if (!ready) return false;
    if (last_ != sequence.value) {
      last_ = sequence.value;
      since_ = Now();
    }
    return Now() - since_ > Milliseconds(2);
  }
  Status Poll(Duration max_wait) override {
    return ForwardingCollective::Poll(std::min<Duration>(max_wait, Microseconds(500)));
  }

 private:
  std::optional<uint64_t> last_;
  Time since_{};
};

class LazySources : public ReadyEvents {
 protected:
  // Runs 40 rows through memory for 3.
  Outcome Run(bool with_events) {
    constexpr uint64_t kSlots = 3;
    // Direct steps of one row: a longer one would wait for rows that have no room.
    Prepare(RowsOfKind(GetParam(), 40, 1));
    const uint64_t slot_bytes = BytesOf(0) + 5;  // odd: all but the first begin anywhere
    Arena slots(memory(), std::vector<std::byte>(kSlots * slot_bytes, kStale));
    LazySource source(exchange_.get(), stream_.get(), &slots, slot_bytes, with_events,
                      [this](uint32_t row, std::byte* to) {
                        stream_->SlowCopy(MasterOf(row), to, BytesOf(row), Microseconds(200));
                      });
    if (!with_events) stream_->AddGate();
    LateCollective late(link_->end(link_->member()));
    const Outcome outcome = exchange_->Run({.member = &late, .source = &source});
    if (!with_events) stream_->OpenGate();
    stream_->Synchronize();
    EXPECT_EQ(source.releases(), rows());
    slots.ExpectImage("each row was overwritten after its release");
    return outcome;
  }
};

TEST_P(LazySources, ArriveWholeThoughReleasedRowsAreOverwritten) {
  const Outcome outcome = Run(true);
  exchange_->ExpectArrived(outcome);
}

// So that the test above can fail.
TEST_P(LazySources, WithoutEventsStaleBytesTravel) {
  const Outcome outcome = Run(false);
  EXPECT_TRUE(outcome.sent.ok()) << outcome.sent;
  EXPECT_TRUE(outcome.received.ok()) << outcome.received;
  ExpectStale();
}

INSTANTIATE_TEST_SUITE_P(Rows, ReadyEvents,
                         ::testing::Values(Kind::kPacked, Kind::kDirect, Kind::kConverted), NameOf);
INSTANTIATE_TEST_SUITE_P(Rows, LazySources,
                         ::testing::Values(Kind::kPacked, Kind::kDirect, Kind::kConverted), NameOf);

}  // namespace
}  // namespace packcast
