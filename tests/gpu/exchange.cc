#include "tests/gpu/exchange.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "gtest/gtest.h"

#include "runtime/data/buffer_ring.h"
#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"

namespace packcast::testing {
namespace {

// Each broadcast is one of milliseconds; the watch comes after the deadline of the run itself.
constexpr Duration kRunLimit = Seconds(10);
constexpr Duration kWatchLimit = Seconds(15);

constexpr std::byte kSourceGuard{0xee};
constexpr std::byte kTargetGuard{0x11};

std::vector<std::byte> SourceImage(const DeviceCase& made) {
  std::vector<std::byte> image(made.source_bytes, kSourceGuard);
  for (size_t row = 0; row < made.tensors.size(); ++row) {
    const TestTensor& tensor = made.tensors[row];
    const auto& memory = tensor.memory.empty() ? tensor.wire : tensor.memory;
    std::copy(memory.begin(), memory.end(), image.begin() + made.sources[row]);
  }
  return image;
}

Digest WireDigest(const DeviceCase& made) {
  ContentHash whole;
  if (!made.options.hash) return whole.digest();
  for (uint32_t row = 0; row < made.tensors.size(); ++row) {
    whole.Add(row, 0, made.tensors[row].wire);
  }
  return whole.digest();
}

}  // namespace

Arena::Arena(Allocator* memory, std::vector<std::byte> image)
    : memory_(memory), image_(std::move(image)) {
  data_ = memory_->Allocate(std::max<uint64_t>(image_.size(), 1)).value();
  Upload();
}

Arena::~Arena() { memory_->Free(data_, std::max<uint64_t>(image_.size(), 1)); }

void Arena::Upload() {
  const Status copied = memory_->Copy(image_.data(), data_, image_.size());
  EXPECT_TRUE(copied.ok()) << copied;
}

std::vector<std::byte> Arena::Fetch() const {
  std::vector<std::byte> bytes(image_.size());
  const Status copied = memory_->Copy(data_, bytes.data(), bytes.size());
  EXPECT_TRUE(copied.ok()) << copied;
  return bytes;
}

void Arena::ExpectImage(const std::string& name) const {
  const std::vector<std::byte> got = Fetch();
  const auto differs = std::mismatch(got.begin(), got.end(), image_.begin());
  EXPECT_TRUE(differs.first == got.end())
      << name << ": byte " << differs.first - got.begin() << " of " << got.size() << " is "
      << std::to_integer<int>(*differs.first) << ", not " << std::to_integer<int>(*differs.second);
}

Exchange::Exchange(World* world, Link* link, DeviceCase made)
    : world_(world),
      link_(link),
      case_(std::move(made)),
      manifest_(Manifest::Make(RowsIn(case_.tensors)).value()),
      plan_(MakePlan(manifest_, case_.options.plan).value()),
      source_(world->engine(link->root())->allocator(), SourceImage(case_)),
      target_(world->engine(link->member())->allocator(),
              std::vector<std::byte>(case_.target_bytes, kTargetGuard)) {
  for (uint32_t rank = 0; rank < 2 && case_.lends_rings; ++rank) {
    const uint64_t bytes = std::max(case_.options.plan.buffer_bytes, plan_.largest_step);
    Allocator* const memory = world_->engine(rank)->allocator();
    rings_[rank] = BufferRing::Make(bytes, case_.counts[rank], memory).value();
  }
}

BatchTensor Exchange::TensorAt(uint32_t row) const {
  const TestTensor& tensor = case_.tensors[row];
  return {source_.data() + case_.sources[row], tensor.source_dtype.value_or(tensor.row.dtype),
          tensor.strides};
}

std::unique_ptr<BatchSource> Exchange::OneBatch() const {
  std::vector<TensorBatch> batches(case_.tensors.empty() ? 0 : 1);
  for (uint32_t row = 0; row < case_.tensors.size(); ++row) {
    batches.front().tensors.push_back(TensorAt(row));
  }
  return BatchesOf(std::move(batches));
}

TargetMap Exchange::MakeTargets() const {
  TargetMap targets;
  for (uint32_t row = 0; row < case_.targets.size(); ++row) {
    RowTarget target{.kind = case_.targets[row].kind};
    for (const PlacedTarget::Part& part : case_.targets[row].parts) {
      target.pieces.push_back({part.offset, part.bytes, target_.data() + part.at});
    }
    targets.SetRow(row, std::move(target));
  }
  return targets;
}

// On the member's thread; the regions are in its device's memory.
Status Exchange::Show(std::span<const UnpackedRegion> regions) {
  Allocator* const memory = world_->engine(link_->member())->allocator();
  for (const UnpackedRegion& region : regions) {
    std::vector<std::byte>& row = shown_[region.row];
    if (row.size() != region.offset) return Internal("shown out of order");
    row.resize(region.offset + region.bytes);
    if (region.bytes == 0) continue;
    PC_RETURN_IF_ERROR(memory->Copy(region.data, row.data() + region.offset, region.bytes));
  }
  return OkStatus();
}

Outcome Exchange::Run(const Ways& ways) {
  const uint32_t root = link_->root();
  const uint32_t member = link_->member();
  const auto or_usual = [](auto* given, auto* usual) { return given != nullptr ? given : usual; };
  std::array<BroadcastOptions, 2> options = {case_.options, case_.options};
  for (uint32_t rank = 0; rank < 2; ++rank) {
    options[rank].manifest = &manifest_;
    options[rank].expected = &plan_;
    options[rank].buffer_count = case_.counts[rank];
    options[rank].ring = rings_[rank].get();
  }
  shown_.assign(case_.tensors.size(), {});
  Outcome outcome;
  const std::unique_ptr<BatchSource> all = OneBatch();
  const auto producer =
      DeviceProducer::Make(or_usual(ways.root, link_->end(root)), or_usual(ways.source, all.get()),
                           or_usual(ways.root_engine, world_->engine(root)), options[root]);
  const auto table = UnpackTable::Make(manifest_, plan_, MakeTargets(), case_.options.hash);
  outcome.sent = producer.status();
  outcome.received = table.status();
  if (!producer.ok() || !table.ok()) return outcome;
  const auto consumer = DeviceConsumer::Make(
      or_usual(ways.member, link_->end(member)), world_->engine(member), options[member], &*table,
      [this](std::span<const UnpackedRegion> regions) { return Show(regions); });
  outcome.received = consumer.status();
  if (!consumer.ok()) return outcome;

  const StreamId stream = link_->NextStream(plan_.digest);
  const auto run = [this, &stream](uint32_t rank, auto* machine, Status* status,
                                   BroadcastResult* result) {
    *status = link_->end(rank)->Begin(stream);
    if (!status->ok()) return;
    const StatusOr<BroadcastResult> ran = machine->Run(In(kRunLimit));
    *status = ran.status();
    if (ran.ok()) *result = *ran;
  };
  std::array<std::function<void()>, 2> jobs;
  jobs[root] = [&] { run(root, producer->get(), &outcome.sent, &outcome.root); };
  jobs[member] = [&] { run(member, consumer->get(), &outcome.received, &outcome.member); };
  const auto unstick = [this] {
    for (uint32_t rank = 0; rank < 2; ++rank) link_->end(rank)->BeginAbort("the test is late");
  };
  RunOnBoth(world_, jobs, kWatchLimit, unstick, ways.meanwhile);
  return outcome;
}

void Exchange::ExpectArrived(const Outcome& outcome) {
  ASSERT_TRUE(outcome.sent.ok()) << outcome.sent;
  ASSERT_TRUE(outcome.received.ok()) << outcome.received;
  std::vector<std::byte>& image = target_.image();
  for (uint32_t row = 0; row < case_.tensors.size(); ++row) {
    const std::vector<std::byte>& wire = case_.tensors[row].wire;
    for (const PlacedTarget::Part& part : case_.targets[row].parts) {
      std::copy_n(wire.begin() + part.offset, part.bytes, image.begin() + part.at);
    }
    const bool is_shown = case_.targets[row].kind == RowTarget::Kind::kCallback;
    EXPECT_TRUE(shown_[row] == (is_shown ? wire : std::vector<std::byte>())) << "row " << row;
  }
  target_.ExpectImage("the member's memory");
  source_.ExpectImage("the root's memory");
  EXPECT_EQ(outcome.root.content_digest, WireDigest(case_));
  EXPECT_EQ(outcome.member.content_digest, WireDigest(case_));
  for (const BroadcastResult* result : {&outcome.root, &outcome.member}) {
    EXPECT_EQ(result->steps, plan_.steps.size());
    EXPECT_EQ(result->wire_bytes, plan_.wire_bytes);
    EXPECT_EQ(result->bytes, manifest_.total_bytes());
    EXPECT_EQ(result->rows, manifest_.size());
  }
}

}  // namespace packcast::testing
