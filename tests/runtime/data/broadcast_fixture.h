#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "protocol/manifest.h"
#include "runtime/data/local_collective.h"
#include "runtime/data/packed_consumer.h"
#include "runtime/data/packed_producer.h"
#include "runtime/data/transport.h"

namespace packcast::testing {

// Memory that is counted, and filled with a pattern so that stale bytes show. `from`: where it
// comes from; null: host memory of exactly the size, so that AddressSanitizer sees its end.
class CountingAllocator : public Allocator {
 public:
  explicit CountingAllocator(Allocator* from = nullptr) : from_(from) {}
  StatusOr<std::byte*> Allocate(uint64_t bytes) override;
  void Free(std::byte* data, uint64_t bytes) override;
  uint64_t bytes() const { return bytes_; }
  uint64_t peak() const { return peak_; }

 private:
  Allocator* const from_;
  uint64_t bytes_ = 0;
  uint64_t peak_ = 0;
};

// A tensor with its bytes as they should arrive.
struct TestTensor {
  Row row;
  std::vector<std::byte> wire;    // contiguous
  std::vector<std::byte> memory;  // what `strides` walk over; empty: `wire` itself
  std::vector<int64_t> strides;
  std::optional<Dtype> source_dtype;  // in memory, where packing converts
};

std::vector<std::byte> RandomBytes(uint64_t count, std::mt19937_64* rng);
TestTensor MakeTensor(std::string name, Dtype dtype, std::vector<int64_t> shape,
                      std::mt19937_64* rng);
// A BF16 or F16 tensor becomes what packing makes of an F32 one in memory: of any bits, infinities
// and NaNs among them.
void MakeConverted(TestTensor* tensor, std::mt19937_64* rng);
// The same tensor with its memory transposed and spread out; only for whole-byte types.
void MakeStrided(TestTensor* tensor);
// The same with the dimensions in any order, and gaps.
void MakeStridedAtRandom(TestTensor* tensor, std::mt19937_64* rng);
// A view on `tensor`, which must outlive it.
NamedTensor ViewOf(const TestTensor& tensor);
std::vector<NamedTensor> ViewsOf(const std::vector<TestTensor>& tensors);
std::vector<Row> RowsIn(const std::vector<TestTensor>& tensors);

// All ranks of one generation, joined through `transport`, with one stream begun.
std::vector<std::unique_ptr<Collective>> JoinAll(Transport* transport, uint32_t size, uint32_t root,
                                                 uint64_t generation = 1);
StreamId TestStream(uint64_t epoch = 1, uint64_t attempt = 1);
void BeginAll(const std::vector<std::unique_ptr<Collective>>& ranks, const StreamId& stream);

// Collects what a consumer's callback is shown, row by row.
class Collector {
 public:
  explicit Collector(const std::vector<TestTensor>& tensors);
  UnpackCallback callback();
  const std::vector<std::vector<std::byte>>& rows() const { return rows_; }
  uint64_t regions() const { return regions_; }
  // Whether every row was shown in full, in order of offset, each byte once.
  bool complete() const;

 private:
  std::vector<std::vector<std::byte>> rows_;
  std::vector<uint64_t> filled_;
  std::vector<uint64_t> bytes_;
  std::vector<uint64_t> shown_;
  uint64_t regions_ = 0;
  bool ordered_ = true;
};

inline Time In(Duration wait) { return std::chrono::steady_clock::now() + wait; }

// Drives one producer and its consumers in turns on this thread. Stops when all are finished or
// one failed, or nothing happens any more; the status says which. `idle_wait`: how long a Poll may
// wait for others when all are idle, where messages take their time.
template <class Consumer = PackedConsumer, class Producer>
Status DriveAll(const std::vector<std::unique_ptr<Collective>>& ranks, Producer* producer,
                std::type_identity_t<const std::vector<Consumer*>&> consumers,
                Duration idle_wait = Duration::zero()) {
  size_t quiet_rounds = 0;
  while (true) {
    bool finished = true;
    bool idle = true;
    const auto advance = [&](auto* machine) -> Status {
      PC_ASSIGN_OR_RETURN(const bool done, machine->Advance());
      finished = finished && done;
      idle = idle && (done || machine->idle());
      return OkStatus();
    };
    PC_RETURN_IF_ERROR(advance(producer));
    for (Consumer* consumer : consumers) PC_RETURN_IF_ERROR(advance(consumer));
    if (finished) return OkStatus();
    for (const auto& rank : ranks) (void)rank->Poll(idle ? idle_wait : Duration::zero());
    quiet_rounds = idle ? quiet_rounds + 1 : 0;
    // Polls copy in turn with Advance; this many rounds without a change is a deadlock.
    if (quiet_rounds > 1000) {
      std::string waits;
      for (const auto& rank : ranks) waits += "; " + rank->WaitingFor();
      return Internal("nothing moves any more" + waits);
    }
  }
}

}  // namespace packcast::testing
