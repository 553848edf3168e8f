#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "protocol/contract.h"
#include "protocol/messages.h"
#include "tests/sim/weights.h"
#include "tests/sim/world.h"

namespace packcast::sim {

// A rank's memory and ears, for its transfers. Calls about the process (Joined, Streamed) come on
// it; words are read and written by the device, which goes on while the process is frozen.
class StreamUser {
 public:
  virtual ~StreamUser() = default;
  virtual uint64_t ReadWord(const EpochKey& key, uint32_t cell) = 0;
  virtual void WriteWord(const EpochKey& key, uint32_t cell, uint64_t word) = 0;
  virtual void Joined(const EpochKey& key, const Status& status) = 0;
  virtual void Streamed(const EpochKey& key, const Status& status, const std::string& culprit) = 0;
};

// How the device ranks of one generation move steps: the root launches a step when all members have
// granted it, members at its gate. A dead, frozen or failed rank stalls the others for ever, as
// NCCL does, or (host transport) they get an error after a while.
class DataPlane {
 public:
  DataPlane(World* world, bool host) : world_(world), host_(host) {}

  // A new generation's blob; good for the members of `contract` and this key's term only.
  Bytes MakeRendezvous(const EpochKey& key, GenerationId generation, const Contract& contract);
  void Join(Process* process, StreamUser* user, const EpochKey& key, GenerationId generation,
            const Bytes& blob, bool fails);
  // On the generation last joined. `fails_at`: this rank's own trouble at that step.
  void Begin(Process* process, const EpochKey& key, const CellPlan& plan, uint32_t buffer_count,
             std::optional<size_t> fails_at);
  // No new launches by this process; kernels that run go on until Close.
  void Halt(Process* process);
  // Nothing of this process moves any more.
  void Close(Process* process);
  void OnKilled(Process* process) { Close(process); }
  // Of the running (or last) stream.
  size_t Launched(Process* process) const;
  bool Streaming(const Process* process) const;

 private:
  struct Rank {
    Process* process = nullptr;
    StreamUser* user = nullptr;
    EpochKey joined_for;
    bool told_joined = false;
    bool halted = false;
    bool closed = false;
    bool launching = false;
    size_t operations = 0;  // over all streams of the generation
    // Of the present stream:
    EpochKey key;
    const CellPlan* plan = nullptr;
    uint32_t buffer_count = 1;
    std::optional<size_t> fails_at;
    bool begun = false;
    bool told = false;  // Streamed was called
    size_t launched = 0;
    size_t completed = 0;
  };
  struct Operation {
    EpochKey key;
    Digest plan;
    size_t step = 0;
    size_t launches = 0;
    Words words;
  };
  struct Generation {
    uint64_t blob = 0;
    Term term;
    GenerationId id;
    std::vector<FlowMember> members;
    uint32_t root = 0;
    std::vector<Rank> ranks;  // as members
    std::deque<Operation> operations;
  };

  Generation* OfBlob(const Bytes& blob);
  Rank* Find(const Process* process, Generation** generation);
  const Rank* Find(const Process* process) const;
  void TellJoined(Generation* generation);
  void Advance(Generation* generation);
  bool RootMayLaunch(const Generation& generation) const;
  void RootLaunch(Generation* generation);
  void MemberLaunch(Generation* generation, size_t rank);
  bool Launch(Generation* generation, size_t rank);
  void Complete(Generation* generation, size_t rank, size_t operation);
  void Tell(Generation* generation, size_t rank, const Status& status, const std::string& culprit);
  void TellPeersOfLoss(Generation* generation, const std::string& culprit);
  Duration Soon() { return world_->random.Between(Microseconds(10), Microseconds(300)); }

  World* const world_;
  const bool host_;
  uint64_t blobs_ = 0;
  std::deque<Generation> generations_;
  std::map<const Process*, Generation*> present_;
};

}  // namespace packcast::sim
