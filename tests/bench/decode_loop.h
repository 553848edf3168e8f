#pragma once

#include <cstdint>
#include <memory>

#include "protocol/status.h"
#include "tests/bench/step_loop.h"

namespace packcast::bench {

struct DecodeOptions {
  int device = 0;
  // Of Llama-3.1-8B's shape: 436 MB each, and 1 GB for the head.
  uint32_t layers = 32;
  // Allocations come every so many steps; 0: never.
  uint32_t churn_steps = 16;
};

// What an engine that decodes does to its GPU, on a stream of the default priority: each step
// embeds a token, launches a CUDA graph of all layers, finds the next token with kernels launched
// one by one, copies it to the host and waits for it. Every few steps it allocates and frees device
// memory, memory of the stream's pool and pinned memory. All steps begin with the same token, so
// each must find the same one; else its memory was written by somebody else (kDataLoss).
// Prepare allocates, fills, captures and warms up. Errors: CudaStatus.
std::unique_ptr<Stepper> MakeDecodeStepper(const DecodeOptions& options);

// Kernels in the graph of a step.
uint32_t KernelsOfGraph(const DecodeOptions& options);

// For a machine without GPUs: copies in the host's memory.
std::unique_ptr<Stepper> MakeHostStepper();

}  // namespace packcast::bench
