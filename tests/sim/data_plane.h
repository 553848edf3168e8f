#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/contract.h"
#include "protocol/messages.h"
#include "tests/sim/weights.h"
#include "tests/sim/world.h"

namespace packcast::sim {

// A rank's memory and ears, for its transfers. Calls about the process (Joined, Streamed) come on
// it, once for each flow; words are read and written by the device, which goes on while the process
// is frozen.
class StreamUser {
 public:
  virtual ~StreamUser() = default;
  // Whether all that a root sends next is there: a lazy source may still gather it.
  virtual bool Ready(const EpochKey& key, const std::vector<uint32_t>& cells) = 0;
  virtual uint64_t ReadWord(const EpochKey& key, FlowId flow, uint32_t cell) = 0;
  virtual void WriteWord(const EpochKey& key, FlowId flow, uint32_t cell, uint64_t word) = 0;
  virtual void Joined(const EpochKey& key, FlowId flow, const Status& status) = 0;
  virtual void Streamed(const EpochKey& key, FlowId flow, const Status& status,
                        const std::string& culprit) = 0;
};

// What a rank sends or receives over a generation.
struct StreamOptions {
  EpochKey key;
  const Flow* flow = nullptr;  // read during the call only
  const CellPlan* plan = nullptr;
  uint32_t buffer_count = 1;
  std::optional<size_t> fails_at;  // this rank's own trouble at that step
};

// How the device ranks of each generation move steps: the root launches a step when all members
// have granted it, members at its gate. Grants name their attempt and take a while; the root drops
// those of another one, and says when it begins, so that who has begun before grants again. A dead,
// frozen or failed rank stalls the others for ever, as NCCL does, or (host transport) they get an
// error after a while. A process has a rank in each generation that it joined, until it closes it;
// these know nothing of each other.
class DataPlane {
 public:
  DataPlane(World* world, bool host) : world_(world), host_(host) {}

  // Of a new generation, by which those find `maker` that it feeds; good for the members of `flow`,
  // its transport and this key's term only.
  Bytes MakeRendezvous(const EpochKey& key, GenerationId generation, const Flow& flow,
                       const MemberId& maker);
  void Join(Process* process, StreamUser* user, const EpochKey& key, GenerationId generation,
            const Flow& flow, const Bytes& blob, bool fails);
  void Begin(Process* process, GenerationId generation, const StreamOptions& options);
  // This rank's stream fails, and soon: another of the process's has failed. The generation is of
  // no use then.
  void BreakOff(Process* process, GenerationId generation);
  // This rank's stream fails: it has lasted for too long by its own clock.
  void Expire(Process* process, GenerationId generation);
  // What was not Ready may be now.
  void Wake(Process* process);
  // Nothing travels between two names until Heal, and what was on its way arrives then. Over the
  // host transport both ends notice when it takes long.
  void Cut(const std::string& a, const std::string& b);
  void Heal(const std::string& a, const std::string& b);
  // No new launches by this process; kernels that run go on until Close.
  void Halt(Process* process);
  // Nothing of this process moves any more: over this generation, or over all.
  void Close(Process* process, GenerationId generation);
  void Close(Process* process);
  void OnKilled(Process* process) { Close(process); }
  // Whether it has joined and not closed it.
  bool Lives(const Process* process, GenerationId generation) const;
  // A stream of this process has begun and not ended.
  bool Streaming(const Process* process) const;

 private:
  struct Rank {
    Process* process = nullptr;
    StreamUser* user = nullptr;
    EpochKey joined_for;
    FlowId joined_flow;
    bool told_joined = false;
    bool halted = false;
    bool closed = false;
    bool launching = false;
    size_t operations = 0;  // over all streams of the generation
    // Of the present stream:
    EpochKey key;
    FlowId flow;
    const CellPlan* plan = nullptr;
    uint32_t buffer_count = 1;
    std::optional<size_t> fails_at;
    bool begun = false;
    bool told = false;  // Streamed was called
    size_t launched = 0;
    size_t completed = 0;
    size_t read = 0;       // completed steps that the next rank of a chain has too, as it said
    size_t passed_on = 0;  // launched at the next rank of a chain
  };
  struct Operation {
    EpochKey key;
    FlowId flow;
    Digest plan;
    size_t step = 0;
    size_t launches = 0;
    Words words;
  };
  struct Generation {
    std::map<uint32_t, uint64_t> blobs;  // by the rank that made it
    Term term;
    GenerationId id;
    std::string transport;
    std::vector<FlowMember> members;
    uint32_t root = 0;
    bool relays = false;
    std::vector<Rank> ranks;  // as members
    // As members: steps of the present stream of who feeds them, as that one knows.
    std::vector<size_t> granted;
    std::deque<Operation> operations;

    bool Carries(const Flow& flow) const;
    // In a chain the ranks follow one another, else all follow the root.
    size_t FeederOf(size_t rank) const {
      return relays ? (rank + ranks.size() - 1) % ranks.size() : root;
    }
    bool Feeds(size_t rank, size_t other) const {
      return other != root && other != rank && FeederOf(other) == rank;
    }
    // The rank that this one passes steps on to; none: ranks.size().
    size_t NextOf(size_t rank) const {
      const size_t next = (rank + 1) % ranks.size();
      return relays && next != root ? next : ranks.size();
    }
    // Steps that a rank has no more to do with: what it grants is so many and its buffers.
    size_t SpentBy(size_t rank) const {
      const Rank& r = ranks[rank];
      return NextOf(rank) < ranks.size() ? std::min(r.completed, r.read) : r.completed;
    }
  };
  // A rank that a process has not closed.
  struct Seat {
    Generation* generation = nullptr;
    size_t rank = 0;
    Rank* operator->() const { return &generation->ranks[rank]; }
  };

  struct Cable {
    bool cut = false;
    std::vector<std::pair<Process*, std::function<void()>>> held;
  };

  // What one rank tells or sends another.
  void Carry(const Process* from, Process* to, std::function<void()> what);
  Cable& CableOf(const std::string& a, const std::string& b);
  void NoticeCut(const std::string& a, const std::string& b);
  // The generation, and who made the blob.
  std::pair<Generation*, uint32_t> OfBlob(const Bytes& blob);
  const Seat* Find(const Process* process, GenerationId generation) const;
  const std::vector<Seat>& SeatsOf(const Process* process) const;
  void TellJoined(Generation* generation);
  void SayBegun(Generation* generation, size_t feeder);
  void Grant(Generation* generation, size_t rank);
  void Advance(Generation* generation);
  void PassOn(Generation* generation, size_t rank);
  void TellFinished(Generation* generation);
  bool RootMayLaunch(const Generation& generation) const;
  void RootLaunch(Generation* generation);
  void MemberLaunch(Generation* generation, size_t rank);
  void CheckGranted(const Generation& generation, size_t rank);
  bool Launch(Generation* generation, size_t rank);
  void Complete(Generation* generation, size_t rank, size_t operation);
  void Tell(Generation* generation, size_t rank, const Status& status, const std::string& culprit);
  void TellPeersOfLoss(Generation* generation, const std::string& culprit);
  Duration Soon() { return world_->random.Between(Microseconds(10), Microseconds(300)); }

  World* const world_;
  const bool host_;
  uint64_t blobs_ = 0;
  std::deque<Generation> generations_;
  std::map<const Process*, std::vector<Seat>> seats_;
  std::map<std::pair<std::string, std::string>, Cable> cables_;
};

}  // namespace packcast::sim
