#include <algorithm>

#include "runtime/data/cuda/copy_kernels.h"
#include "runtime/data/float_convert.h"

namespace packcast {
namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kThreads = kCopyWarps * kLanes;
// Bytes that a lane makes at a time. Readers say how many such a lane has under way (kUnroll).
constexpr uint32_t kVector = 16;

// 16 bytes of the wire.
struct Vector {
  uint64_t lo;
  uint64_t hi;
};

__device__ uint32_t AlignmentOf(const void* pointer) {
  const uint32_t low = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer)) & (kVector - 1);
  return low == 0 ? kVector : low & (~low + 1);
}

// ---- reading: 16 wire bytes from wire byte `at` of the piece on -------------------------------

// `bytes` little-endian bytes of `word`'s kind, for the ends of rows and odd alignments.
__device__ uint64_t LoadBytes(const std::byte* from, uint32_t bytes) {
  uint64_t word = 0;
  for (uint32_t k = 0; k < bytes; ++k) {
    word |= static_cast<uint64_t>(std::to_integer<uint8_t>(from[k])) << (8 * k);
  }
  return word;
}

template <class Word>
__device__ Vector LoadWords(const std::byte* from) {
  Word words[kVector / sizeof(Word)];
  const Word* source = reinterpret_cast<const Word*>(from);
#pragma unroll
  for (uint32_t k = 0; k < kVector / sizeof(Word); ++k) words[k] = __ldcs(source + k);
  Vector vector;
  memcpy(&vector, words, kVector);
  return vector;
}

template <>
__device__ Vector LoadWords<uint4>(const std::byte* from) {
  const uint4 words = __ldcs(reinterpret_cast<const uint4*>(from));
  Vector vector;
  memcpy(&vector, &words, kVector);
  return vector;
}

// Contiguous bytes at a multiple of `kAlignment` (4, 8 or 16).
template <uint32_t kAlignment>
struct PlainReader {
  using Raw = Vector;
  static constexpr uint32_t kUnroll = 8;
  const std::byte* from;

  __device__ explicit PlainReader(const CopyPiece& piece, const PieceLayout*) : from(piece.from) {}

  __device__ Vector Load(uint32_t at, bool) const {
    if constexpr (kAlignment == 16) return LoadWords<uint4>(from + at);
    if constexpr (kAlignment == 8) return LoadWords<uint64_t>(from + at);
    return LoadWords<uint32_t>(from + at);
  }
  __device__ static Vector Make(const Raw& raw) { return raw; }
  __device__ uint64_t LoadTail(uint32_t at, uint32_t bytes) const {
    return LoadBytes(from + at, bytes);
  }
};

// Contiguous bytes anywhere, read as the aligned words around them: five words hold any 16 bytes,
// and `spare` says that the bytes after these, in the fifth, belong to the tensor too.
struct OddReader {
  using Raw = Vector;
  static constexpr uint32_t kUnroll = 4;
  const std::byte* from;

  __device__ explicit OddReader(const CopyPiece& piece, const PieceLayout*) : from(piece.from) {}

  __device__ Vector Load(uint32_t at, bool spare) const {
    const std::byte* source = from + at;
    if (!spare) return {LoadBytes(source, 8), LoadBytes(source + 8, 8)};
    const uint32_t shift = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(source)) & 3;
    const uint32_t* words = reinterpret_cast<const uint32_t*>(source - shift);
    uint32_t in[5];
    uint32_t out[4];
#pragma unroll
    for (uint32_t k = 0; k < 5; ++k) in[k] = __ldcs(words + k);
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) out[k] = __funnelshift_r(in[k], in[k + 1], 8 * shift);
    Vector vector;
    memcpy(&vector, out, kVector);
    return vector;
  }
  __device__ static Vector Make(const Raw& raw) { return raw; }
  __device__ uint64_t LoadTail(uint32_t at, uint32_t bytes) const {
    return LoadBytes(from + at, bytes);
  }
};

__device__ bool IsNan(uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

// Two elements by the device's own instruction, which rounds as we do but makes all NaNs one.
__device__ uint32_t NarrowPair(bool to_bf16, uint32_t low, uint32_t high) {
  uint32_t pair;
  const float first = __uint_as_float(low);
  const float second = __uint_as_float(high);
  if (to_bf16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  }
  const auto narrow_nan = [to_bf16](uint32_t bits) {
    return to_bf16 ? Fp32BitsToBf16(bits)
                   : ((bits >> 16) & 0x8000u) | 0x7e00u | ((bits >> 13) & 0x3ffu);
  };
  if (IsNan(low)) pair = (pair & 0xffff0000u) | narrow_nan(low);
  if (IsNan(high)) pair = (pair & 0xffffu) | narrow_nan(high) << 16;
  return pair;
}

// Contiguous fp32 at a multiple of `kAlignment` (1, 4 or 16) that leaves as two bytes an element.
template <uint32_t kAlignment>
struct ConvertReader {
  static constexpr uint32_t kUnroll = kAlignment == 16 ? 4 : 1;  // each takes 32 bytes
  const std::byte* from;
  const bool to_bf16;

  __device__ explicit ConvertReader(const CopyPiece& piece, const PieceLayout*)
      : from(piece.from), to_bf16(piece.conversion == Conversion::kF32ToBf16) {}

  __device__ Vector LoadWide(const std::byte* source) const {
    if constexpr (kAlignment == 16) return LoadWords<uint4>(source);
    if constexpr (kAlignment == 4) return LoadWords<uint32_t>(source);
    return {LoadBytes(source, 8), LoadBytes(source + 8, 8)};
  }
  __device__ uint64_t Four(const Vector& wide) const {
    const uint32_t low =
        NarrowPair(to_bf16, static_cast<uint32_t>(wide.lo), static_cast<uint32_t>(wide.lo >> 32));
    const uint32_t high =
        NarrowPair(to_bf16, static_cast<uint32_t>(wide.hi), static_cast<uint32_t>(wide.hi >> 32));
    return static_cast<uint64_t>(high) << 32 | low;
  }

  // The loads of several vectors are under way before the first is converted.
  struct Raw {
    Vector first;
    Vector second;
  };
  __device__ Raw Load(uint32_t at, bool) const {
    const std::byte* source = from + uint64_t{2} * at;
    return {LoadWide(source), LoadWide(source + kVector)};
  }
  __device__ Vector Make(const Raw& raw) const { return {Four(raw.first), Four(raw.second)}; }
  __device__ uint64_t LoadTail(uint32_t at, uint32_t bytes) const {
    uint64_t word = 0;
    for (uint32_t k = 0; k < bytes / 2; ++k) {
      const auto bits =
          static_cast<uint32_t>(LoadBytes(from + uint64_t{2} * at + uint64_t{4} * k, 4));
      word |= static_cast<uint64_t>(to_bf16 ? Fp32BitsToBf16(bits) : Fp32BitsToFp16(bits))
              << (16 * k);
    }
    return word;
  }
};

// Elements that lie apart, converted or not: one at a time. Correct for all, fast for none.
struct StridedReader {
  using Raw = Vector;
  static constexpr uint32_t kUnroll = 1;
  const std::byte* from;
  Conversion conversion;
  uint64_t row_offset;
  const PieceLayout* layout;

  __device__ StridedReader(const CopyPiece& piece, const PieceLayout* layouts)
      : from(piece.from),
        conversion(piece.conversion),
        row_offset(piece.row_offset),
        layout(layouts + piece.layout) {}

  __device__ uint64_t LoadTail(uint32_t at, uint32_t bytes) const {
    const uint32_t size = layout->wire_size;
    uint64_t word = 0;
    for (uint32_t k = 0; k < bytes; k += size) {
      uint64_t rest = (row_offset + at + k) / size;
      int64_t element = 0;
      for (uint32_t dim = layout->dims; dim-- > 0;) {
        element += static_cast<int64_t>(rest % layout->extent[dim]) * layout->stride[dim];
        rest /= layout->extent[dim];
      }
      uint64_t value = LoadBytes(from + element * static_cast<int64_t>(layout->source_size),
                                 layout->source_size);
      if (conversion == Conversion::kF32ToBf16)
        value = Fp32BitsToBf16(static_cast<uint32_t>(value));
      if (conversion == Conversion::kF32ToFp16)
        value = Fp32BitsToFp16(static_cast<uint32_t>(value));
      word |= value << (8 * k);
    }
    return word;
  }
  __device__ Vector Load(uint32_t at, bool) const { return {LoadTail(at, 8), LoadTail(at + 8, 8)}; }
  __device__ static Vector Make(const Raw& raw) { return raw; }
};

// ---- writing ------------------------------------------------------------------------------------

__device__ void StoreBytes(std::byte* to, uint64_t word, uint32_t bytes) {
  for (uint32_t k = 0; k < bytes; ++k) to[k] = static_cast<std::byte>(word >> (8 * k));
}

template <class Word>
__device__ void StoreWords(std::byte* to, const Vector& vector) {
  Word words[kVector / sizeof(Word)];
  memcpy(words, &vector, kVector);
#pragma unroll
  for (uint32_t k = 0; k < kVector / sizeof(Word); ++k) reinterpret_cast<Word*>(to)[k] = words[k];
}

__device__ void Store(std::byte* to, uint32_t alignment, const Vector& vector) {
  switch (alignment) {
    case 16: {
      uint4 words;
      memcpy(&words, &vector, kVector);
      *reinterpret_cast<uint4*>(to) = words;
      return;
    }
    case 8: return StoreWords<uint64_t>(to, vector);
    case 4: return StoreWords<uint32_t>(to, vector);
    case 2: return StoreWords<uint16_t>(to, vector);
  }
  StoreBytes(to, vector.lo, 8);
  StoreBytes(to + 8, vector.hi, 8);
}

// ---- one warp's part of a piece -----------------------------------------------------------------

struct Sum {
  uint64_t a = 0;
  uint64_t b = 0;

  __device__ void Add(uint64_t word, uint64_t key_a, uint64_t key_b) {
    a += content_hash::TermA(word, key_a);
    b += content_hash::TermB(word, key_b);
  }
};

// Bytes [begin, end) of the piece; `begin` is a multiple of 16. `kFast`: the destination, if there
// is one, is at a multiple of 16.
template <class Reader, bool kFast>
__device__ Sum CopyPart(const CopyPiece& piece, const PieceLayout* layouts, uint32_t begin,
                        uint32_t end, uint32_t lane) {
  using content_hash::kStepA, content_hash::kStepB;
  constexpr uint32_t kTurn = kVector * kLanes;
  const Reader reader(piece, layouts);
  std::byte* const to = piece.to;
  const uint32_t alignment = kFast ? kVector : AlignmentOf(to);
  const bool hashed = piece.hashed != 0;
  const uint32_t whole = begin + (end - begin) / kVector * kVector;
  // Of this lane's first word; stepped from turn to turn.
  const uint64_t word = piece.row_offset / 8 + (begin + lane * kVector) / 8;
  uint64_t key_a = content_hash::KeyA(piece.row) + word * kStepA;
  uint64_t key_b = content_hash::KeyB(piece.row) + word * kStepB;
  Sum sum;
  constexpr uint32_t kUnroll = Reader::kUnroll;
  for (uint32_t base = begin + lane * kVector; base < whole; base += kTurn * kUnroll) {
    typename Reader::Raw raw[kUnroll];
#pragma unroll
    for (uint32_t k = 0; k < kUnroll; ++k) {
      const uint32_t at = base + k * kTurn;
      // The five-word read takes up to three bytes more than it needs.
      if (at < whole) raw[k] = reader.Load(at, at + kVector + 3 < piece.bytes);
    }
#pragma unroll
    for (uint32_t k = 0; k < kUnroll; ++k) {
      const uint32_t at = base + k * kTurn;
      if (at < whole) {
        const Vector vector = reader.Make(raw[k]);
        if (to != nullptr) Store(to + at, alignment, vector);
        if (hashed) {
          sum.Add(vector.lo, key_a, key_b);
          sum.Add(vector.hi, key_a + kStepA, key_b + kStepB);
        }
      }
      key_a += kTurn / 8 * kStepA;
      key_b += kTurn / 8 * kStepB;
    }
  }
  // Up to 15 bytes at the end of the row: at most two words, one lane each.
  const uint32_t at = whole + 8 * lane;
  if (at < end) {
    const uint32_t bytes = min(end - at, 8u);
    const uint64_t last = reader.LoadTail(at, bytes);
    if (to != nullptr) StoreBytes(to + at, last, bytes);
    const uint64_t at_word = (piece.row_offset + at) / 8;
    if (hashed) {
      sum.Add(last, content_hash::KeyA(piece.row) + at_word * kStepA,
              content_hash::KeyB(piece.row) + at_word * kStepB);
    }
  }
  return sum;
}

// One choice for each piece, the same in all lanes: the loops themselves do not branch. Pieces that
// are not plain bytes have a kernel of their own: one for all would hold too few registers.
template <bool kPlain>
__device__ Sum CopyAny(const CopyPiece& piece, const PieceLayout* layouts, uint32_t begin,
                       uint32_t end, uint32_t lane) {
  if constexpr (!kPlain) {
    if (piece.layout != CopyPiece::kContiguous) {
      return CopyPart<StridedReader, false>(piece, layouts, begin, end, lane);
    }
    if (piece.conversion == Conversion::kNone) {
      return CopyPart<OddReader, false>(piece, layouts, begin, end, lane);
    }
    const uint32_t at = AlignmentOf(piece.from);
    if (at == kVector && AlignmentOf(piece.to) == kVector) {
      return CopyPart<ConvertReader<16>, true>(piece, layouts, begin, end, lane);
    }
    return at >= 4 ? CopyPart<ConvertReader<4>, false>(piece, layouts, begin, end, lane)
                   : CopyPart<ConvertReader<1>, false>(piece, layouts, begin, end, lane);
  }
  const uint32_t from = AlignmentOf(piece.from);
  if (AlignmentOf(piece.to) == kVector) {
    switch (from) {
      case 16: return CopyPart<PlainReader<16>, true>(piece, layouts, begin, end, lane);
      case 8: return CopyPart<PlainReader<8>, true>(piece, layouts, begin, end, lane);
      case 4: return CopyPart<PlainReader<4>, true>(piece, layouts, begin, end, lane);
    }
    return CopyPart<OddReader, true>(piece, layouts, begin, end, lane);
  }
  if (from == kVector) return CopyPart<PlainReader<16>, false>(piece, layouts, begin, end, lane);
  return CopyPart<OddReader, false>(piece, layouts, begin, end, lane);
}

__device__ uint64_t SumOverWarp(uint64_t value) {
#pragma unroll
  for (uint32_t k = kLanes / 2; k > 0; k /= 2) value += __shfl_xor_sync(~0u, value, k);
  return value;
}

template <bool kPlain>
__device__ void CopyByWarp(const CopyWork& work, const CopyPiece& piece, uint32_t index,
                           uint32_t part, uint32_t parts, uint32_t lane) {
  // Parts begin at multiples of 512 bytes: a row of vectors of one warp.
  constexpr uint32_t kGrain = kVector * kLanes;
  const uint32_t share = ((piece.bytes + parts - 1) / parts + kGrain - 1) / kGrain * kGrain;
  const uint32_t begin = min(part * share, piece.bytes);
  const uint32_t end = min(begin + share, piece.bytes);
  if (begin == end) return;
  Sum sum = CopyAny<kPlain>(piece, work.layouts, begin, end, lane);
  if (piece.hashed == 0) return;
  sum.a = SumOverWarp(sum.a);
  sum.b = SumOverWarp(sum.b);
  if (lane != 0) return;
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t));
  Digest* digest = work.digests + index;
  atomicAdd(reinterpret_cast<unsigned long long*>(&digest->hi), sum.a);
  atomicAdd(reinterpret_cast<unsigned long long*>(&digest->lo), sum.b);
}

// What a warp does next: its piece, or its part of one. Read a unit ahead, so that nothing waits
// for a description.
struct Job {
  CopyPiece piece;
  uint32_t index = 0;
  uint32_t part = 0;
  uint32_t parts = 0;  // 0: nothing
};

__device__ Job JobOf(const CopyWork& work, uint32_t unit_index, uint32_t warp) {
  Job job;
  if (unit_index >= work.unit_count) return job;
  const CopyUnit unit = work.units[unit_index];
  if (unit.count == 1) {
    job.index = unit.first;
    job.part = warp;
    job.parts = kCopyWarps;
  } else if (warp < unit.count) {
    job.index = unit.first + warp;
    job.parts = 1;
  } else {
    return job;
  }
  job.piece = work.pieces[job.index];
  return job;
}

// Warps go on by themselves: nothing waits for the whole block.
template <bool kPlain>
__global__ void __launch_bounds__(kThreads) CopyKernel(const CopyWork work) {
  const uint32_t warp = threadIdx.x / kLanes;
  const uint32_t lane = threadIdx.x % kLanes;
  Job job = JobOf(work, blockIdx.x, warp);
  for (uint32_t k = blockIdx.x; k < work.unit_count; k += gridDim.x) {
    const Job next = JobOf(work, k + gridDim.x, warp);
    if (job.parts > 0) CopyByWarp<kPlain>(work, job.piece, job.index, job.part, job.parts, lane);
    job = next;
  }
}

}  // namespace

cudaError_t LaunchCopy(const CopyWork& work, uint32_t blocks, cudaStream_t stream) {
  if (work.unit_count == 0) return cudaSuccess;
  const uint32_t grid = std::min(blocks, work.unit_count);
  if (work.plain) {
    CopyKernel<true><<<grid, kThreads, 0, stream>>>(work);
  } else {
    CopyKernel<false><<<grid, kThreads, 0, stream>>>(work);
  }
  return cudaGetLastError();
}

cudaError_t LoadCopyKernels() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, CopyKernel<true>);
  return error != cudaSuccess ? error : cudaFuncGetAttributes(&attributes, CopyKernel<false>);
}

}  // namespace packcast
