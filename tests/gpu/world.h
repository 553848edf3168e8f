#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/transport.h"

// Where tests of two ranks run: on two GPUs over NCCL, or on the host with twins of both, so that
// the tests themselves are tested where there is no GPU. A program links one of the two.
namespace packcast::testing {

// A stream of the embedding program's own, on a rank's device beside packcast's work: what makes a
// trainer's tensors, and overwrites them. Its work runs in order. One thread at a time, but for
// OpenGate.
class CallerStream {
 public:
  // Opens all gates and waits for the work.
  virtual ~CallerStream() = default;
  // What comes after it in the stream waits for an OpenGate of its own.
  virtual void AddGate() = 0;
  // Opens the oldest gate that is not open. Any thread.
  virtual void OpenGate() = 0;
  // Keeps the device busy for `spin`, then copies.
  virtual void SlowCopy(const std::byte* from, std::byte* to, uint64_t bytes, Duration spin) = 0;
  virtual void Fill(std::byte* data, uint64_t bytes, std::byte value) = 0;
  // Events as TensorBatch::ready has them; they live as long as the stream.
  virtual void* MakeEvent() = 0;
  virtual void Record(void* event) = 0;
  virtual void Synchronize() = 0;
};

// Two ranks, each with memory, a copy engine and a transport. Calls for one rank by one thread at a
// time.
class World {
 public:
  virtual ~World() = default;
  virtual std::string Describe() const = 0;
  // What a thread does first that works for a rank: chooses its device.
  virtual void Enter(uint32_t rank) = 0;
  virtual Transport* transport(uint32_t rank) = 0;
  // Its allocator is the rank's memory.
  virtual CopyEngine* engine(uint32_t rank) = 0;
  // Nothing may be broadcast meanwhile: it allocates, and loads kernels.
  virtual std::unique_ptr<CallerStream> MakeStream(uint32_t rank) = 0;
};

// The one that is linked. Errors say what is missing here: kUnavailable.
StatusOr<std::unique_ptr<World>> MakeWorld();

// The test program's, from its begin to its end. Without one each test fails: see NeedsWorld.
World* TheWorld();

// A test that needs it.
class NeedsWorld : public ::testing::Test {
 protected:
  void SetUp() override;
};

}  // namespace packcast::testing
