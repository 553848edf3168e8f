// One bit that changes on its way, anywhere, is found, and named: tensor, bytes, rank.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/gpu/device_case.h"
#include "tests/gpu/exchange.h"
#include "tests/gpu/forwarding.h"
#include "tests/gpu/two_ranks.h"
#include "tests/gpu/world.h"

namespace packcast {
namespace {

using testing::DeviceCase;
using testing::Exchange;
using testing::Link;
using testing::Outcome;
using testing::TestTensor;
using testing::TheWorld;
using testing::World;

enum class Side {
  kMember,  // what arrived, before its checksum
  kRoot,    // a packed buffer, after its checksum and before it leaves
};

struct Flip {
  uint32_t row = 0;
  uint64_t byte = 0;  // of the row
  int bit = 0;
  Side side = Side::kMember;
};

// Where a byte of a row is in the plan.
struct Place {
  uint64_t sequence = 0;
  size_t span = 0;
  uint64_t offset = 0;       // in the span
  uint64_t piece_begin = 0;  // bytes of the row that its checksum covers
  uint64_t piece_end = 0;
};

Place Find(const Plan& plan, const Flip& flip) {
  for (size_t sequence = 0; sequence < plan.steps.size(); ++sequence) {
    const Step& step = plan.steps[sequence];
    for (uint32_t k = step.region_begin; k < step.region_end; ++k) {
      const Region& region = plan.regions[k];
      if (region.row != flip.row || flip.byte < region.offset) continue;
      const uint64_t within = flip.byte - region.offset;
      if (within >= region.bytes) continue;
      const uint64_t piece = within / kPieceBytes * kPieceBytes;
      return {sequence, step.direct ? k - step.region_begin : 0,
              step.direct ? within : region.buffer_offset + within, region.offset + piece,
              region.offset + std::min<uint64_t>(region.bytes, piece + kPieceBytes)};
    }
  }
  ADD_FAILURE() << "row " << flip.row << " has no byte " << flip.byte;
  return {};
}

// Changes one bit of one operation's memory, on the thread of its rank.
class FlippingCollective final : public testing::ForwardingCollective {
 public:
  FlippingCollective(Collective* inner, Allocator* memory, const Flip& flip, const Place& place)
      : ForwardingCollective(inner), memory_(memory), flip_(flip), place_(place) {}

  Status Launch(Operation operation) override {
    if (operation.sequence.value == place_.sequence) {
      at_ = operation.spans[place_.span].data + place_.offset;
      if (flip_.side == Side::kRoot) PC_RETURN_IF_ERROR(FlipIt());
    }
    return ForwardingCollective::Launch(std::move(operation));
  }
  StatusOr<bool> Done(Sequence sequence) override {
    PC_ASSIGN_OR_RETURN(const bool done, ForwardingCollective::Done(sequence));
    if (done && sequence.value == place_.sequence && flip_.side == Side::kMember && !flipped_) {
      PC_RETURN_IF_ERROR(FlipIt());
    }
    return done;
  }
  bool flipped() const { return flipped_; }

 private:
  Status FlipIt() {
    std::byte value{};
    PC_RETURN_IF_ERROR(memory_->Copy(at_, &value, 1));
    value ^= std::byte{1} << flip_.bit;
    PC_RETURN_IF_ERROR(memory_->Copy(&value, at_, 1));
    flipped_ = true;
    return OkStatus();
  }

  Allocator* const memory_;
  const Flip flip_;
  const Place place_;
  std::byte* at_ = nullptr;
  bool flipped_ = false;
};

constexpr uint32_t kTiny = 0;
constexpr uint32_t kLarge = 2;   // packed, over several buffers
constexpr uint32_t kDirect = 3;  // over several steps and pieces
constexpr uint32_t kConverted = 4;
constexpr uint32_t kStrided = 6;
constexpr uint32_t kLast = 7;

// A row of every kind.
DeviceCase MixedCase() {
  std::mt19937_64 rng(5);
  const auto row = [&rng](const std::string& name, Dtype dtype, std::vector<int64_t> shape) {
    return testing::MakeTensor(name, dtype, std::move(shape), &rng);
  };
  std::vector<TestTensor> tensors = {
      row("tiny", Dtype::kU8, {}),
      row("odd", Dtype::kF8E4M3, {17}),
      row("large", Dtype::kF32, {150'001}),
      row("direct", Dtype::kBF16, {3, 160'001}),
      row("converted", Dtype::kF16, {70'001}),
      row("direct.2", Dtype::kI8, {999}),
      row("strided", Dtype::kI16, {33, 57}),
      row("last", Dtype::kBool, {5}),
  };
  testing::MakeConverted(&tensors[kConverted], &rng);
  testing::MakeStrided(&tensors[kStrided]);
  DeviceCase made = testing::PlainCase(std::move(tensors), {.buffer_bytes = 300 << 10,
                                                            .direct_bytes_min = 1,
                                                            .direct_regions_per_step = 2,
                                                            .direct_bytes_per_step = 600 << 10,
                                                            .direct_rows = {kDirect, 5}});
  // A row in two places: what is checked is what is copied.
  std::vector<testing::PlacedTarget::Part>& parts = made.targets[kLarge].parts;
  const testing::PlacedTarget::Part whole = parts.front();
  parts = {{0, 1001, whole.at}, {1001, whole.bytes - 1001, whole.at + 1003}};
  return made;
}

uint64_t BytesOf(const DeviceCase& made, uint32_t row) { return made.tensors[row].wire.size(); }

std::vector<Flip> FixedFlips(const DeviceCase& made) {
  return {{kTiny, 0, 0},
          {kLast, BytesOf(made, kLast) - 1, 7},
          {kLarge, 0, 3},
          {kLarge, BytesOf(made, kLarge) - 1, 4},
          {kDirect, 0, 7},
          {kDirect, 500'001, 2},
          {kDirect, BytesOf(made, kDirect) - 1, 0},
          {kConverted, 100'000, 6},
          {kStrided, 1234, 1},
          {kLarge, 300'000, 5, Side::kRoot}};
}

Outcome RunFlipped(Exchange* exchange, Link* link, const Flip& flip, const Place& place) {
  World* const world = TheWorld();
  const uint32_t rank = flip.side == Side::kRoot ? link->root() : link->member();
  FlippingCollective flipping(link->end(rank), world->engine(rank)->allocator(), flip, place);
  Exchange::Ways ways;
  (flip.side == Side::kRoot ? ways.root : ways.member) = &flipping;
  const Outcome outcome = exchange->Run(ways);
  EXPECT_TRUE(flipping.flipped());
  return outcome;
}

void ExpectFound(const Flip& flip, uint32_t root) {
  SCOPED_TRACE("row " + std::to_string(flip.row) + ", byte " + std::to_string(flip.byte) +
               ", bit " + std::to_string(flip.bit));
  auto link = Link::Make(TheWorld(), root);
  ASSERT_TRUE(link.ok()) << link.status();
  Exchange exchange(TheWorld(), link->get(), MixedCase());
  const Place place = Find(exchange.plan(), flip);
  const Outcome outcome = RunFlipped(&exchange, link->get(), flip, place);
  EXPECT_EQ(outcome.received.code(), StatusCode::kDataLoss) << outcome.received;
  const std::string name = exchange.made().tensors[flip.row].row.name;
  const std::string expected =
      "rank " + std::to_string((*link)->member()) + " (worker): tensor \"" + name + "\", bytes " +
      std::to_string(place.piece_begin) + " to " + std::to_string(place.piece_end) + " (step " +
      std::to_string(place.sequence);
  EXPECT_NE(outcome.received.message().find(expected), std::string::npos)
      << outcome.received << "\nshould have: " << expected;
  EXPECT_FALSE(outcome.sent.ok()) << "the root hears of it";
}

using FlippedBit = testing::NeedsWorld;

// The test's own test: without a flip all is well, and without checksums it is the flip that shows.
TEST_F(FlippedBit, IsInTheMemoryWhereNothingIsChecked) {
  auto link = Link::Make(TheWorld(), 0);
  ASSERT_TRUE(link.ok()) << link.status();
  Exchange sound(TheWorld(), link->get(), MixedCase());
  sound.ExpectArrived(sound.Run({}));
  for (const Flip& flip : {Flip{kDirect, 500'001, 2}, Flip{kConverted, 100'000, 6}}) {
    DeviceCase made = MixedCase();
    made.options.hash = false;
    Exchange exchange(TheWorld(), link->get(), std::move(made));
    const Outcome outcome = RunFlipped(&exchange, link->get(), flip, Find(exchange.plan(), flip));
    ASSERT_TRUE(outcome.sent.ok() && outcome.received.ok()) << outcome.sent << outcome.received;
    const std::vector<std::byte> got = exchange.target().Fetch();
    const std::vector<std::byte>& wire = exchange.made().tensors[flip.row].wire;
    const uint64_t at = exchange.made().targets[flip.row].parts.front().at;
    EXPECT_EQ(got[at + flip.byte], wire[flip.byte] ^ (std::byte{1} << flip.bit));
    EXPECT_EQ(got[at + flip.byte + 1], wire[flip.byte + 1]);
  }
}

TEST_F(FlippedBit, IsFoundAndNamed) {
  uint32_t root = 0;
  for (const Flip& flip : FixedFlips(MixedCase())) {
    ExpectFound(flip, root);
    if (HasFailure()) return;
    root = 1 - root;
  }
}

// Each needs a generation of its own, since an error ends it.
TEST_F(FlippedBit, IsFoundAnywhere) {
  const DeviceCase made = MixedCase();
  std::mt19937_64 rng(testing::FromEnvironment("PACKCAST_PROPERTY_SEED", 1));
  const uint64_t flips = testing::FromEnvironment("PACKCAST_FLIPS", 4);
  for (uint64_t k = 0; k < flips && !HasFailure(); ++k) {
    Flip flip;
    flip.row = static_cast<uint32_t>(rng() % made.tensors.size());
    flip.byte = rng() % BytesOf(made, flip.row);
    flip.bit = static_cast<int>(rng() % 8);
    ExpectFound(flip, static_cast<uint32_t>(rng() % 2));
  }
}

}  // namespace
}  // namespace packcast
