#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "protocol/status.h"
#include "runtime/data/broadcast.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/collective.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/tensor_batch.h"
#include "runtime/data/unpack_table.h"
#include "tests/gpu/device_case.h"
#include "tests/gpu/two_ranks.h"
#include "tests/gpu/world.h"

namespace packcast::testing {

// A stretch of a rank's memory, of exactly so many bytes, and what should be in it.
class Arena {
 public:
  Arena(Allocator* memory, std::vector<std::byte> image);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return image_.size(); }
  std::vector<std::byte>& image() { return image_; }
  // Writes the image.
  void Upload();
  std::vector<std::byte> Fetch() const;
  // Fails the test, with the place, where the memory differs from the image. `name` is for that.
  void ExpectImage(const std::string& name) const;

 private:
  Allocator* const memory_;
  std::vector<std::byte> image_;
  std::byte* data_ = nullptr;
};

// What became of one broadcast.
struct Outcome {
  Status sent;
  Status received;
  BroadcastResult root;
  BroadcastResult member;
};

// One broadcast of a case over a link: memory, plan and targets. Memory is allocated and freed with
// it (and in Run, for a case that lends no rings), so nothing may be under way on the devices then.
class Exchange {
 public:
  Exchange(World* world, Link* link, DeviceCase made);

  // What a test puts in the place of the usual; null: the usual. The usual source has all tensors
  // at hand.
  struct Ways {
    Collective* root = nullptr;
    Collective* member = nullptr;
    CopyEngine* root_engine = nullptr;
    BatchSource* source = nullptr;
    std::function<void()> meanwhile;  // on this thread, while both ranks run
  };
  // Fails the test where it cannot even start; else errors are in the outcome.
  Outcome Run(const Ways& ways);
  // Every byte of both memories, guards too, and what callbacks saw; the numbers of the results.
  void ExpectArrived(const Outcome& outcome);

  // The tensor as a batch has it.
  BatchTensor TensorAt(uint32_t row) const;
  const DeviceCase& made() const { return case_; }
  const Plan& plan() const { return plan_; }
  Arena& source() { return source_; }
  Arena& target() { return target_; }

 private:
  std::unique_ptr<BatchSource> OneBatch() const;
  TargetMap MakeTargets() const;
  Status Show(std::span<const UnpackedRegion> regions);

  World* const world_;
  Link* const link_;
  const DeviceCase case_;
  const Manifest manifest_;
  const Plan plan_;
  Arena source_;
  Arena target_;
  std::array<std::unique_ptr<BufferRing>, 2> rings_;  // lent; null: each end makes its own
  std::vector<std::vector<std::byte>> shown_;         // by the callback
};

}  // namespace packcast::testing
