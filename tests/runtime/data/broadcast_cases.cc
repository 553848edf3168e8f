#include "tests/runtime/data/broadcast_cases.h"

#include <memory>

#include "protocol/plan.h"

namespace packcast::testing {

void RunCase(Case* made, CaseMaker* maker, Transport* transport, uint64_t generation,
             Duration idle_wait) {
  Case& c = *made;
  const auto manifest = Manifest::Make(RowsIn(c.tensors));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const auto plan = MakePlan(*manifest, c.options.plan);
  ASSERT_TRUE(plan.ok()) << plan.status();
  if (c.with_plan) {
    c.options.manifest = &*manifest;
    c.options.expected = &*plan;
  }

  const auto ranks = JoinAll(transport, c.size, c.root, generation);
  BeginAll(ranks, TestStream());
  Allocator* const from = transport->allocator();
  CountingAllocator root_allocator(from == HostAllocator() ? nullptr : from);
  uint64_t releases = 0;
  std::vector<NamedTensor> views = ViewsOf(c.tensors);
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
    receivers.push_back(std::make_unique<Receiver>(c, maker));
    sources.push_back(RowsOf(RowsIn(c.tensors)));
    options.buffer_count = c.counts[rank];
    options.allocator = &receivers.back()->allocator;
    auto consumer =
        PackedConsumer::Make(ranks[rank].get(), sources.back().get(), options,
                             receivers.back()->collector.callback(), &receivers.back()->targets);
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    pointers.push_back(consumer->get());
    consumers.push_back(std::move(consumer).value());
  }

  const Status status = DriveAll(ranks, producer->get(), pointers, idle_wait);
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

}  // namespace packcast::testing
