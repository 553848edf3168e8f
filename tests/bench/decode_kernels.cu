#include <cuda_bf16.h>

#include "tests/bench/decode_kernels.h"

namespace packcast::bench {
namespace {

using Bf16 = __nv_bfloat16;

constexpr uint32_t kLanes = 32;
constexpr uint32_t kWarps = 8;  // of a block of products
constexpr uint32_t kBatch = 4;  // vectors that a lane of a product reads at a time
constexpr uint32_t kSmallThreads = 256;
constexpr uint32_t kOneBlockThreads = 1024;
constexpr uint32_t kNumbersOfVector = sizeof(uint4) / sizeof(Bf16);
static_assert(kHidden % (kBatch * kLanes * kNumbersOfVector) == 0);
static_assert(kIntermediate % (kBatch * kLanes * kNumbersOfVector) == 0);

const Bf16* Numbers(const std::byte* data) { return reinterpret_cast<const Bf16*>(data); }
Bf16* Numbers(std::byte* data) { return reinterpret_cast<Bf16*>(data); }

__global__ void Fill(uint16_t* data, uint64_t count, uint64_t seed) {
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t k = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < count; k += step) {
    uint64_t word = (k + 1) * 0x9e3779b97f4a7c15 + seed;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    // Sign and mantissa at random, the size from 1/64 to 1/32.
    data[k] = static_cast<uint16_t>(((word >> 40) & 0x807f) | (121 << 7));
  }
}

__device__ float Products(uint32_t a, uint32_t b) {
  const float low = __uint_as_float(a << 16) * __uint_as_float(b << 16);
  return low + __uint_as_float(a & 0xffff0000) * __uint_as_float(b & 0xffff0000);
}

// out = weights * in, a warp for each of `rows`; a row is `vectors` times 16 bytes.
__global__ void __launch_bounds__(kWarps* kLanes)
    Multiply(const uint4* weights, const uint4* in, Bf16* out, uint32_t rows, uint32_t vectors) {
  const uint32_t row = blockIdx.x * kWarps + threadIdx.x / kLanes;
  const uint32_t lane = threadIdx.x % kLanes;
  if (row >= rows) return;
  const uint4* const at = weights + uint64_t{row} * vectors;
  float sum = 0;
  for (uint32_t k = lane; k < vectors; k += kBatch * kLanes) {
    uint4 batch[kBatch];  // under way together
#pragma unroll
    for (uint32_t n = 0; n < kBatch; ++n) batch[n] = __ldcs(at + k + n * kLanes);
#pragma unroll
    for (uint32_t n = 0; n < kBatch; ++n) {
      const uint4 a = batch[n];
      const uint4 b = in[k + n * kLanes];
      sum += Products(a.x, b.x) + Products(a.y, b.y) + Products(a.z, b.z) + Products(a.w, b.w);
    }
  }
  for (uint32_t other = kLanes / 2; other > 0; other /= 2) {
    sum += __shfl_xor_sync(0xffffffff, sum, other);
  }
  if (lane == 0) out[row] = __float2bfloat16_rn(sum);
}

// One block: brings the residual to a mean square of one.
__global__ void __launch_bounds__(kOneBlockThreads)
    Normalise(const float* residual, Bf16* out, uint32_t count) {
  __shared__ float sums[kOneBlockThreads];
  float sum = 0;
  for (uint32_t k = threadIdx.x; k < count; k += kOneBlockThreads) {
    sum += residual[k] * residual[k];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (uint32_t half = kOneBlockThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  const float scale = rsqrtf(sums[0] / static_cast<float>(count) + 1e-6f);
  for (uint32_t k = threadIdx.x; k < count; k += kOneBlockThreads) {
    out[k] = __float2bfloat16_rn(residual[k] * scale);
  }
}

// out = a * sigmoid(b), number by number: what stands for rotations, attention and activation.
__global__ void Gate(const Bf16* a, const Bf16* b, Bf16* out, uint32_t count) {
  const uint32_t k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= count) return;
  out[k] = __float2bfloat16_rn(__bfloat162float(a[k]) / (1 + __expf(-__bfloat162float(b[k]))));
}

__global__ void Add(const Bf16* in, float* residual, uint32_t count) {
  const uint32_t k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k < count) residual[k] += __bfloat162float(in[k]);
}

__global__ void Assign(const Bf16* in, float* residual, uint32_t count) {
  const uint32_t k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k < count) residual[k] = __bfloat162float(in[k]);
}

// One block: where the largest is, the first of equals.
__global__ void __launch_bounds__(kOneBlockThreads)
    FindLargest(const Bf16* in, uint32_t count, uint32_t* out) {
  __shared__ float values[kOneBlockThreads];
  __shared__ uint32_t places[kOneBlockThreads];
  uint32_t place = threadIdx.x;
  float value = __bfloat162float(in[place]);
  for (uint32_t k = threadIdx.x + kOneBlockThreads; k < count; k += kOneBlockThreads) {
    const float other = __bfloat162float(in[k]);
    if (other <= value) continue;
    value = other;
    place = k;
  }
  values[threadIdx.x] = value;
  places[threadIdx.x] = place;
  __syncthreads();
  for (uint32_t half = kOneBlockThreads / 2; half > 0; half /= 2) {
    const uint32_t mate = threadIdx.x + half;
    if (threadIdx.x < half &&
        (values[mate] > values[threadIdx.x] ||
         (values[mate] == values[threadIdx.x] && places[mate] < places[threadIdx.x]))) {
      values[threadIdx.x] = values[mate];
      places[threadIdx.x] = places[mate];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *out = places[0];
}

uint32_t SmallBlocks(uint64_t count) {
  return static_cast<uint32_t>((count + kSmallThreads - 1) / kSmallThreads);
}

void LaunchMultiply(const std::byte* weights, const std::byte* in, std::byte* out, uint64_t rows,
                    uint64_t columns, cudaStream_t stream) {
  Multiply<<<static_cast<uint32_t>((rows + kWarps - 1) / kWarps), kWarps * kLanes, 0, stream>>>(
      reinterpret_cast<const uint4*>(weights), reinterpret_cast<const uint4*>(in), Numbers(out),
      static_cast<uint32_t>(rows), static_cast<uint32_t>(columns / kNumbersOfVector));
}

void LaunchGate(const Bf16* a, const Bf16* b, std::byte* out, uint64_t count, cudaStream_t stream) {
  Gate<<<SmallBlocks(count), kSmallThreads, 0, stream>>>(a, b, Numbers(out),
                                                         static_cast<uint32_t>(count));
}

void LaunchNormalise(const Activations& at, cudaStream_t stream) {
  Normalise<<<1, kOneBlockThreads, 0, stream>>>(at.residual, Numbers(at.hidden), kHidden);
}

void LaunchAdd(const Activations& at, cudaStream_t stream) {
  Add<<<SmallBlocks(kHidden), kSmallThreads, 0, stream>>>(Numbers(at.hidden), at.residual, kHidden);
}

}  // namespace

cudaError_t FillWeights(std::byte* data, uint64_t bytes, uint64_t seed, cudaStream_t stream) {
  Fill<<<1024, kSmallThreads, 0, stream>>>(reinterpret_cast<uint16_t*>(data),
                                           bytes / sizeof(uint16_t), seed);
  return cudaGetLastError();
}

cudaError_t Embed(const std::byte* head, uint32_t token, const Activations& at,
                  cudaStream_t stream) {
  Assign<<<SmallBlocks(kHidden), kSmallThreads, 0, stream>>>(
      Numbers(head) + uint64_t{token} * kHidden, at.residual, kHidden);
  return cudaGetLastError();
}

cudaError_t RunLayer(const std::byte* weights, const Activations& at, cudaStream_t stream) {
  const std::byte* const qkv = weights;
  const std::byte* const out = qkv + 2 * kQkv * kHidden;
  const std::byte* const gate_up = out + 2 * kHidden * kHidden;
  const std::byte* const down = gate_up + 2 * 2 * kIntermediate * kHidden;
  const Bf16* const wide = Numbers(at.wide);
  LaunchNormalise(at, stream);
  LaunchMultiply(qkv, at.hidden, at.wide, kQkv, kHidden, stream);
  LaunchGate(wide, wide, at.wide, kQkv, stream);
  // The logits are not in use before the last layer is through.
  LaunchGate(wide, wide + (kQkv - kHidden), at.logits, kHidden, stream);
  LaunchMultiply(out, at.logits, at.hidden, kHidden, kHidden, stream);
  LaunchAdd(at, stream);
  LaunchNormalise(at, stream);
  LaunchMultiply(gate_up, at.hidden, at.wide, 2 * kIntermediate, kHidden, stream);
  LaunchGate(wide, wide + kIntermediate, at.wide, kIntermediate, stream);
  LaunchMultiply(down, at.wide, at.hidden, kHidden, kIntermediate, stream);
  LaunchAdd(at, stream);
  return cudaGetLastError();
}

cudaError_t PickToken(const std::byte* head, const Activations& at, cudaStream_t stream) {
  LaunchNormalise(at, stream);
  LaunchMultiply(head, at.hidden, at.logits, kVocabulary, kHidden, stream);
  FindLargest<<<1, kOneBlockThreads, 0, stream>>>(Numbers(at.logits), kVocabulary, at.token);
  return cudaGetLastError();
}

}  // namespace packcast::bench
