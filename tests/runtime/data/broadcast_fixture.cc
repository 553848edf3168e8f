#include "tests/runtime/data/broadcast_fixture.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "runtime/data/float_convert.h"

namespace packcast::testing {

StatusOr<std::byte*> CountingAllocator::Allocate(uint64_t bytes) {
  std::byte* data = nullptr;
  if (from_ == nullptr) {
    data = static_cast<std::byte*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  } else {
    PC_ASSIGN_OR_RETURN(data, from_->Allocate(bytes));
  }
  std::memset(data, 0xa5, bytes);
  bytes_ += bytes;
  peak_ = std::max(peak_, bytes_);
  return data;
}

void CountingAllocator::Free(std::byte* data, uint64_t bytes) {
  bytes_ -= bytes;
  if (from_ == nullptr) {
    std::free(data);
  } else {
    from_->Free(data, bytes);
  }
}

std::vector<std::byte> RandomBytes(uint64_t count, std::mt19937_64* rng) {
  std::vector<std::byte> bytes(count);
  for (uint64_t k = 0; k < count; k += 8) {
    const uint64_t word = (*rng)();
    std::memcpy(bytes.data() + k, &word, std::min<uint64_t>(8, count - k));
  }
  return bytes;
}

TestTensor MakeTensor(std::string name, Dtype dtype, std::vector<int64_t> shape,
                      std::mt19937_64* rng) {
  TestTensor tensor;
  tensor.row = {.name = std::move(name), .dtype = dtype, .shape = std::move(shape)};
  tensor.wire = RandomBytes(RowBytes(tensor.row).value(), rng);
  return tensor;
}

void MakeConverted(TestTensor* tensor, std::mt19937_64* rng) {
  const uint64_t count = tensor->wire.size() / 2;
  tensor->source_dtype = Dtype::kF32;
  tensor->memory = RandomBytes(4 * count, rng);
  // Every other one between 2^-15 and 2, where all of an F16's bits are rounded to.
  for (uint64_t k = 0; k < count; k += 2) {
    std::byte& top = tensor->memory[4 * k + 3];
    top = (top & std::byte{0x87}) | std::byte{0x38};
  }
  if (tensor->row.dtype == Dtype::kBF16) {
    ConvertFp32ToBf16(tensor->memory.data(), tensor->wire.data(), count);
  } else {
    ConvertFp32ToFp16(tensor->memory.data(), tensor->wire.data(), count);
  }
}

namespace {

// Moves a contiguous tensor's elements to where `strides` want them, in `elements` of memory.
void Spread(TestTensor* tensor, std::vector<int64_t> strides, int64_t elements) {
  const auto& shape = tensor->row.shape;
  const std::vector<std::byte> from = tensor->memory.empty() ? tensor->wire : tensor->memory;
  const uint64_t size =
      static_cast<uint64_t>(DtypeBits(tensor->source_dtype.value_or(tensor->row.dtype))) / 8;
  tensor->memory.assign(static_cast<uint64_t>(elements) * size, std::byte{0xee});
  std::vector<int64_t> at(shape.size(), 0);
  for (uint64_t n = 0; n < from.size() / size; ++n) {
    int64_t where = 0;
    for (size_t k = 0; k < shape.size(); ++k) where += at[k] * strides[k];
    std::memcpy(tensor->memory.data() + static_cast<uint64_t>(where) * size, from.data() + n * size,
                size);
    for (size_t k = shape.size(); k-- > 0;) {
      if (++at[k] < shape[k]) break;
      at[k] = 0;
    }
  }
  tensor->strides = std::move(strides);
}

}  // namespace

void MakeStrided(TestTensor* tensor) {
  const auto& shape = tensor->row.shape;
  // Column-major, every second element of memory.
  std::vector<int64_t> strides(shape.size(), 0);
  int64_t stride = 2;
  for (size_t k = 0; k < shape.size(); ++k) {
    strides[k] = stride;
    stride *= std::max<int64_t>(shape[k], 1);
  }
  Spread(tensor, std::move(strides), stride);
}

void MakeStridedAtRandom(TestTensor* tensor, std::mt19937_64* rng) {
  const auto& shape = tensor->row.shape;
  std::vector<size_t> inner_first(shape.size());
  std::iota(inner_first.begin(), inner_first.end(), size_t{0});
  std::shuffle(inner_first.begin(), inner_first.end(), *rng);
  std::vector<int64_t> strides(shape.size(), 0);
  int64_t stride = 1;
  for (const size_t k : inner_first) {
    stride += static_cast<int64_t>((*rng)() % 3);
    strides[k] = stride;
    stride *= std::max<int64_t>(shape[k], 1);
  }
  Spread(tensor, std::move(strides), stride);
}

NamedTensor ViewOf(const TestTensor& tensor) {
  const auto& memory = tensor.memory.empty() ? tensor.wire : tensor.memory;
  return {.name = tensor.row.name,
          .dtype = tensor.row.dtype,
          .shape = tensor.row.shape,
          .data = memory.data(),
          .strides = tensor.strides,
          .source_dtype = tensor.source_dtype};
}

std::vector<NamedTensor> ViewsOf(const std::vector<TestTensor>& tensors) {
  std::vector<NamedTensor> views;
  for (const TestTensor& tensor : tensors) views.push_back(ViewOf(tensor));
  return views;
}

std::vector<Row> RowsIn(const std::vector<TestTensor>& tensors) {
  std::vector<Row> rows;
  for (const TestTensor& tensor : tensors) rows.push_back(tensor.row);
  return rows;
}

std::vector<std::unique_ptr<Collective>> JoinAll(Transport* transport, uint32_t size, uint32_t root,
                                                 uint64_t generation) {
  JoinOptions options{.rendezvous = transport->MakeRendezvous(GenerationId(generation)).value(),
                      .size = size,
                      .root = root,
                      .generation = GenerationId(generation),
                      .deadline = In(Seconds(60))};
  for (uint32_t rank = 0; rank < size; ++rank) {
    options.names.push_back("node-" + std::to_string(rank));
  }
  std::vector<std::unique_ptr<Collective>> ranks;
  for (uint32_t rank = 0; rank < size; ++rank) {
    options.rank = rank;
    ranks.push_back(transport->Join(options).value());
  }
  return ranks;
}

StreamId TestStream(uint64_t epoch, uint64_t attempt) {
  return {.version = {.term = {1, 7}, .epoch = EpochId(epoch)},
          .attempt = Attempt(attempt),
          .generation = GenerationId(1)};
}

void BeginAll(const std::vector<std::unique_ptr<Collective>>& ranks, const StreamId& stream) {
  for (const auto& rank : ranks) {
    const Status begun = rank->Begin(stream);
    if (!begun.ok()) internal::DieBecauseNotOk(begun);
  }
}

Collector::Collector(const std::vector<TestTensor>& tensors)
    : rows_(tensors.size()), filled_(tensors.size(), 0), shown_(tensors.size(), 0) {
  for (const TestTensor& tensor : tensors) bytes_.push_back(tensor.wire.size());
}

UnpackCallback Collector::callback() {
  return [this](std::span<const UnpackedRegion> regions) {
    for (const UnpackedRegion& region : regions) {
      ++regions_;
      ++shown_[region.row];
      rows_[region.row].resize(bytes_[region.row]);
      ordered_ = ordered_ && region.offset == filled_[region.row] &&
                 region.row_bytes == bytes_[region.row];
      if (region.bytes > 0) {
        std::memcpy(rows_[region.row].data() + region.offset, region.data, region.bytes);
      }
      filled_[region.row] += region.bytes;
    }
    return OkStatus();
  };
}

bool Collector::complete() const {
  const auto seen = [](uint64_t count) { return count > 0; };
  return ordered_ && filled_ == bytes_ && std::all_of(shown_.begin(), shown_.end(), seen);
}

}  // namespace packcast::testing
