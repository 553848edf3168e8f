// Random broadcasts between two ranks: every byte of both memories is what the CPU makes of it.

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/gpu/device_case.h"
#include "tests/gpu/exchange.h"
#include "tests/gpu/two_ranks.h"
#include "tests/gpu/world.h"

namespace packcast {
namespace {

using testing::Arena;
using testing::CallerStream;
using testing::DeviceCaseMaker;
using testing::Exchange;
using testing::Link;
using testing::Outcome;
using testing::TheWorld;
using testing::World;

constexpr uint64_t kGenerations = 4;

// The tensors in batches cut anywhere. Some have an event of their own; with `stream` all have, and
// the stream makes their bytes just now.
class BatchMaker {
 public:
  BatchMaker(Exchange* exchange, DeviceCaseMaker* maker, CallerStream* stream)
      : exchange_(*exchange), maker_(*maker), stream_(*stream) {
    for (void*& event : events_) event = stream_.MakeEvent();
  }

  // Null: the bytes are there already. Else they come from here.
  std::vector<TensorBatch> Make(const Arena* master) {
    if (master != nullptr) {
      stream_.SlowCopy(master->data(), exchange_.source().data(), master->bytes(),
                       Milliseconds(maker_.Below(3)));
    }
    for (void* event : events_) stream_.Record(event);
    std::vector<TensorBatch> batches;
    for (uint32_t row = 0; row < exchange_.made().tensors.size(); ++row) {
      if (batches.empty() || maker_.Below(3) == 0) {
        batches.emplace_back().release = [this] { ++releases_; };
        const bool waits = master != nullptr || maker_.Below(3) == 0;
        if (waits) batches.back().ready = events_[maker_.Below(4)];
      }
      batches.back().tensors.push_back(exchange_.TensorAt(row));
    }
    return batches;
  }
  size_t releases() const { return releases_; }

 private:
  Exchange& exchange_;
  DeviceCaseMaker& maker_;
  CallerStream& stream_;
  std::array<void*, 4> events_{};
  size_t releases_ = 0;
};

// Adds to `total`, of steps and bytes.
void RunCase(uint64_t seed, World* world, Link* link, CallerStream* stream,
             BroadcastResult* total) {
  SCOPED_TRACE("PACKCAST_PROPERTY_SEED=" + std::to_string(seed));
  DeviceCaseMaker maker(seed);
  Exchange exchange(world, link, maker.Make());
  std::unique_ptr<Arena> master;
  if (maker.Below(4) == 0) {
    std::vector<std::byte>& image = exchange.source().image();
    Allocator* const memory = world->engine(link->root())->allocator();
    master = std::make_unique<Arena>(memory, image);
    const std::vector<std::byte> nothing(image.size(), std::byte{0x77});
    ASSERT_TRUE(memory->Copy(nothing.data(), exchange.source().data(), nothing.size()).ok());
  }
  BatchMaker batch_maker(&exchange, &maker, stream);
  std::vector<TensorBatch> batches = batch_maker.Make(master.get());
  const size_t count = batches.size();
  const std::unique_ptr<BatchSource> source = BatchesOf(std::move(batches));
  const Outcome outcome = exchange.Run({.source = source.get()});
  stream->Synchronize();
  exchange.ExpectArrived(outcome);
  EXPECT_EQ(batch_maker.releases(), count);
  total->steps += outcome.member.steps;
  total->bytes += outcome.member.bytes;
}

using RandomBroadcast = testing::NeedsWorld;

TEST_F(RandomBroadcast, EveryByteArrivesWhateverTheManifestAndTheSettings) {
  World* const world = TheWorld();
  const uint64_t first = testing::FromEnvironment("PACKCAST_PROPERTY_SEED", 1);
  const uint64_t cases = testing::FromEnvironment("PACKCAST_PROPERTY_CASES", testing::kDeviceCases);
  const uint64_t per_generation = (cases + kGenerations - 1) / kGenerations;
  std::unique_ptr<Link> link;
  std::unique_ptr<CallerStream> stream;
  BroadcastResult total;
  for (uint64_t k = 0; k < cases && !HasFailure(); ++k) {
    // One communicator for many; the root is in turn on the one device and on the other.
    if (k % per_generation == 0) {
      link.reset();
      const auto root = static_cast<uint32_t>(k / per_generation % 2);
      auto made = Link::Make(world, root);
      ASSERT_TRUE(made.ok()) << made.status();
      link = std::move(made).value();
      stream = world->MakeStream(root);
    }
    RunCase(first + k, world, link.get(), stream.get(), &total);
  }
  std::printf("%llu random broadcasts of %llu steps and %.1f MB in all\n",
              static_cast<unsigned long long>(cases), static_cast<unsigned long long>(total.steps),
              static_cast<double>(total.bytes) / 1e6);
}

}  // namespace
}  // namespace packcast
