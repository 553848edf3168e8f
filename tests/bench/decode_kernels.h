#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

// The kernels of a decode step, of the shapes of Llama-3.1-8B with a batch of one: for each layer
// four matrix-vector products, which are as fast as memory, and tiny kernels between them.
namespace packcast::bench {

inline constexpr uint64_t kHidden = 4096;
inline constexpr uint64_t kQkv = 6144;
inline constexpr uint64_t kIntermediate = 14336;
inline constexpr uint64_t kVocabulary = 128256;

// Bytes of bf16 weights: of a layer (qkv, o, gate and up, down) and of the head, which is also the
// embedding.
inline constexpr uint64_t kLayerBytes =
    2 * kHidden * (kQkv + kHidden + 2 * kIntermediate + kIntermediate);
inline constexpr uint64_t kHeadBytes = 2 * kHidden * kVocabulary;
inline constexpr int kKernelsOfLayer = 11;

// Device memory of the activations of a step. Plain pointers; whoever makes it frees them.
struct Activations {
  float* residual = nullptr;    // kHidden
  std::byte* hidden = nullptr;  // kHidden bf16
  std::byte* wide = nullptr;    // 2 * kIntermediate bf16, also for qkv
  std::byte* logits = nullptr;  // kVocabulary bf16
  uint32_t* token = nullptr;
};

// Weights small enough that activations stay of the order of one.
cudaError_t FillWeights(std::byte* data, uint64_t bytes, uint64_t seed, cudaStream_t stream);

// The residual becomes the embedding of `token`.
cudaError_t Embed(const std::byte* head, uint32_t token, const Activations& at,
                  cudaStream_t stream);
// kKernelsOfLayer kernels.
cudaError_t RunLayer(const std::byte* weights, const Activations& at, cudaStream_t stream);
// From the residual to the most likely token, in three kernels.
cudaError_t PickToken(const std::byte* head, const Activations& at, cudaStream_t stream);

}  // namespace packcast::bench
