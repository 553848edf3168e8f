#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/collective.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/cuda/nccl_transport.h"

namespace packcast {

// Broadcasts over NCCL with ranks that know nothing of packcast: they compute the boundaries of
// buffers by themselves (Layout::kCompat) and call ncclBroadcast. How unique IDs and lists of
// tensors reach them is up to the peers (vLLM: a TCP store). Example: tests/gpu/compat_main.cc.

// A unique ID, for a packcast rank that is to make it; NCCL lets any rank do so.
struct CompatId {
  std::array<std::byte, 128> bytes{};  // a secret: who has them can join
  std::shared_ptr<const void> maker;   // a process that must live until all have joined
};

// Of `options`: library, id_helper and id_timeout count. Errors: kUnavailable without a libnccl or
// a helper, kDeadlineExceeded; without CUDA in the build kUnimplemented.
StatusOr<CompatId> MakeCompatId(const NcclTransportOptions& options);

// What the peers do first on a new communicator. All ranks must do the same, or all hang.
enum class CompatWarmUp : uint8_t {
  kNone,
  kAllReduce,  // vLLM's PyNcclCommunicator: the sum of one 32-bit float of each rank
};

struct CompatJoin {
  uint32_t rank = 0;
  uint32_t size = 0;
  uint32_t root = 0;  // vLLM: the trainer, 0
  CompatWarmUp warm_up = CompatWarmUp::kNone;
  std::vector<std::string> names;  // of the ranks, for errors; empty or one each
  Time deadline = Time::max();     // Joined fails with kDeadlineExceeded after it
};

// One rank's end. Use it with DeviceProducer and DeviceConsumer, their options' `hash` off, and as
// MakeSilentCollective says: above all, a member says End itself after Begin. Destroyed only when
// all ranks have everything.
struct CompatEnd {
  std::unique_ptr<CopyEngine> engine;
  std::unique_ptr<Collective> collective;
};

// Starts to join and returns at once; poll the collective until it is Joined. Of `options`, what
// is about IDs, direct rows and control does not count. Errors: kInvalidArgument for an ID that is
// not of 128 bytes or ranks out of range, else as MakeNcclTransport.
StatusOr<CompatEnd> JoinCompat(const NcclTransportOptions& options, std::span<const std::byte> id,
                               const CompatJoin& join);

}  // namespace packcast
