#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "protocol/plan.h"
#include "tests/runtime/data/broadcast_cases.h"

namespace packcast {
namespace {

using testing::BeginAll;
using testing::Case;
using testing::CaseMaker;
using testing::CountingAllocator;
using testing::FromEnvironment;
using testing::kCases;
using testing::Receiver;

void RunCase(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  CaseMaker maker(seed);
  Case c = maker.Make();
  const auto manifest = Manifest::Make(testing::RowsIn(c.tensors));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const auto plan = MakePlan(*manifest, c.options.plan);
  ASSERT_TRUE(plan.ok()) << plan.status();
  if (c.with_plan) {
    c.options.manifest = &*manifest;
    c.options.expected = &*plan;
  }

  auto transport = MakeLocalTransport();
  const auto ranks = testing::JoinAll(transport.get(), c.size, c.root);
  BeginAll(ranks, testing::TestStream());
  CountingAllocator root_allocator;
  uint64_t releases = 0;
  std::vector<NamedTensor> views = testing::ViewsOf(c.tensors);
  for (NamedTensor& view : views) view.release = [&releases] { ++releases; };
  const auto source = SourceOf(std::move(views));
  BroadcastOptions options = c.options;
  options.buffer_count = c.counts[c.root];
  options.allocator = &root_allocator;
  auto producer = PackedProducer::Make(ranks[c.root].get(), source.get(), options);
  ASSERT_TRUE(producer.ok()) << producer.status();

  std::vector<std::unique_ptr<Receiver>> receivers;
  std::vector<std::unique_ptr<RowSource>> sources;
  std::vector<std::unique_ptr<PackedConsumer>> consumers;
  std::vector<PackedConsumer*> pointers;
  for (uint32_t rank = 0; rank < c.size; ++rank) {
    if (rank == c.root) continue;
    receivers.push_back(std::make_unique<Receiver>(c, &maker));
    sources.push_back(RowsOf(testing::RowsIn(c.tensors)));
    options.buffer_count = c.counts[rank];
    options.allocator = &receivers.back()->allocator;
    auto consumer =
        PackedConsumer::Make(ranks[rank].get(), sources.back().get(), options,
                             receivers.back()->collector.callback(), &receivers.back()->targets);
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    pointers.push_back(consumer->get());
    consumers.push_back(std::move(consumer).value());
  }

  const Status status = testing::DriveAll(ranks, producer->get(), pointers);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(releases, c.tensors.size());
  ContentHash whole;
  for (uint32_t row = 0; row < c.tensors.size(); ++row) whole.Add(row, 0, c.tensors[row].wire);
  const BroadcastResult& sent = (*producer)->result();
  const Digest expected = c.options.hash ? whole.digest() : Digest();
  ASSERT_EQ(sent.content_digest, expected);
  ASSERT_EQ(sent.steps, plan->steps.size());
  ASSERT_EQ(sent.wire_bytes, plan->wire_bytes);
  ASSERT_EQ(sent.bytes, manifest->total_bytes());
  // The compat layout's buffers are as large as its tensors, by definition.
  const uint64_t size =
      c.options.plan.layout == Layout::kAligned ? c.options.plan.buffer_bytes : UINT32_MAX;
  ASSERT_LE(root_allocator.peak(), size * c.counts[c.root]);
  for (size_t k = 0; k < consumers.size(); ++k) {
    ASSERT_NO_FATAL_FAILURE(receivers[k]->Check(c));
    const BroadcastResult& got = consumers[k]->result();
    ASSERT_EQ(got.content_digest, sent.content_digest);
    ASSERT_EQ(got.bytes, sent.bytes);
    ASSERT_EQ(got.steps, sent.steps);
    const uint32_t rank = static_cast<uint32_t>(k) + (k >= c.root ? 1 : 0);
    ASSERT_LE(receivers[k]->allocator.peak(), size * c.counts[rank]);
  }
}

TEST(BroadcastProperty, EveryByteArrivesWhateverTheManifestAndTheSettings) {
  const uint64_t first = FromEnvironment("PACKCAST_PROPERTY_SEED", 1);
  const uint64_t cases = FromEnvironment("PACKCAST_PROPERTY_CASES", kCases);
  for (uint64_t seed = first; seed < first + cases && !HasFatalFailure(); ++seed) RunCase(seed);
}

}  // namespace
}  // namespace packcast
