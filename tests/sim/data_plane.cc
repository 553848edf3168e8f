#include "tests/sim/data_plane.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace packcast::sim {
namespace {

Bytes BlobOf(uint64_t number) {
  Bytes blob(sizeof number);
  std::memcpy(blob.data(), &number, sizeof number);
  return blob;
}

}  // namespace

// ---- generations --------------------------------------------------------------------------------

Bytes DataPlane::MakeRendezvous(const EpochKey& key, GenerationId id, const Contract& contract) {
  Generation& generation = generations_.emplace_back();
  generation.blob = Mix(++blobs_);
  generation.term = key.term;
  generation.id = id;
  generation.members = contract.flows.front().members;
  generation.root = contract.flows.front().root;
  generation.ranks.resize(generation.members.size());
  return BlobOf(generation.blob);
}

DataPlane::Generation* DataPlane::OfBlob(const Bytes& blob) {
  for (auto it = generations_.rbegin(); it != generations_.rend(); ++it) {
    if (BlobOf(it->blob) == blob) return &*it;
  }
  return nullptr;
}

const DataPlane::Rank* DataPlane::Find(const Process* process) const {
  const auto found = present_.find(process);
  if (found == present_.end()) return nullptr;
  for (const Rank& rank : found->second->ranks) {
    if (rank.process == process) return &rank;
  }
  return nullptr;
}

DataPlane::Rank* DataPlane::Find(const Process* process, Generation** generation) {
  const Rank* rank = Find(process);
  if (rank == nullptr) return nullptr;
  *generation = present_.at(process);
  return const_cast<Rank*>(rank);
}

void DataPlane::Join(Process* process, StreamUser* user, const EpochKey& key, GenerationId id,
                     const Bytes& blob, bool fails) {
  Generation* generation = OfBlob(blob);
  if (generation == nullptr) return world_->Violate("S4: a rendezvous blob that nobody made");
  if (generation->id != id || generation->term != key.term) {
    return world_->Violate("S4: the blob of generation " + std::to_string(generation->id.value) +
                           " is used for generation " + std::to_string(id.value));
  }
  const MemberId self{process->name, process->incarnation};
  for (size_t k = 0; k < generation->members.size(); ++k) {
    if (generation->members[k].member != self) continue;
    Rank& rank = generation->ranks[k];
    if (rank.process != nullptr) return world_->Violate("S4: a rank joined a generation twice");
    rank.process = process;
    rank.user = user;
    rank.joined_for = key;
    present_[process] = generation;
    if (fails) {
      rank.told_joined = true;
      world_->After(process, Soon(), [user, key] {
        user->Joined(key, Internal("injected: the transport did not come up"));
      });
      return;
    }
    TellJoined(generation);
    return;
  }
  world_->Violate("S4: " + self.name + " joins a generation that it is no member of");
}

void DataPlane::TellJoined(Generation* generation) {
  for (const Rank& rank : generation->ranks) {
    if (rank.process == nullptr || rank.closed) return;  // the others wait
  }
  for (Rank& rank : generation->ranks) {
    if (std::exchange(rank.told_joined, true)) continue;
    world_->After(rank.process, world_->Work(rank.process, Microseconds(50), Milliseconds(5)),
                  [user = rank.user, key = rank.joined_for] { user->Joined(key, OkStatus()); });
  }
}

// ---- streams ------------------------------------------------------------------------------------

void DataPlane::Begin(Process* process, const EpochKey& key, const CellPlan& plan,
                      uint32_t buffer_count, std::optional<size_t> fails_at) {
  Generation* generation = nullptr;
  Rank* rank = Find(process, &generation);
  if (rank == nullptr || rank->closed) return world_->Violate("a stream without a generation");
  if (rank->begun && !rank->told) return world_->Violate("S9: two streams at once");
  rank->key = key;
  rank->plan = &plan;
  rank->buffer_count = buffer_count;
  rank->fails_at = fails_at;
  rank->begun = true;
  rank->told = rank->halted = false;
  rank->launched = rank->completed = 0;
  Advance(generation);
}

bool DataPlane::RootMayLaunch(const Generation& generation) const {
  const Rank& root = generation.ranks[generation.root];
  if (!root.begun || root.told || root.halted || root.closed || root.launching) return false;
  if (root.launched >= root.plan->steps.size()) return false;
  if (root.launched >= root.completed + root.buffer_count) return false;
  return std::all_of(generation.ranks.begin(), generation.ranks.end(), [&](const Rank& rank) {
    const bool there = rank.begun && !rank.halted && !rank.closed && rank.key == root.key;
    return there && root.launched < rank.completed + rank.buffer_count;
  });
}

void DataPlane::Advance(Generation* generation) {
  if (!RootMayLaunch(*generation)) return;
  Rank& root = generation->ranks[generation->root];
  root.launching = true;
  world_->After(root.process, Soon() * root.process->slowness,
                [this, generation] { RootLaunch(generation); });
}

// Counts the launch of this rank's next step and checks it against the others'. False when the
// rank does not get that far.
bool DataPlane::Launch(Generation* generation, size_t index) {
  Rank& rank = generation->ranks[index];
  if (rank.closed || rank.halted || rank.told) return false;
  if (rank.fails_at == rank.launched) {
    Tell(generation, index, Internal("injected: the transfer failed here"), "");
    return false;
  }
  Operation& operation = generation->operations[rank.operations];
  if (operation.key != rank.key || operation.plan != rank.plan->digest ||
      operation.step != rank.launched) {
    world_->Violate("S3: " + rank.process->name + " launches another operation than the root");
    return false;
  }
  ++operation.launches;
  ++rank.operations;
  ++rank.launched;
  return true;
}

void DataPlane::RootLaunch(Generation* generation) {
  Rank& root = generation->ranks[generation->root];
  root.launching = false;
  if (!RootMayLaunch(*generation)) return;
  if (root.operations == generation->operations.size()) {
    generation->operations.push_back({root.key, root.plan->digest, root.launched, 0, {}});
  }
  const size_t step = root.launched;
  const size_t index = root.operations;
  if (!Launch(generation, generation->root)) return;
  Operation& operation = generation->operations[index];
  for (const uint32_t cell : root.plan->steps[step]) {
    operation.words.push_back(root.user->ReadWord(root.key, cell));
  }
  for (size_t k = 0; k < generation->ranks.size(); ++k) {
    if (k == generation->root) continue;
    Rank& rank = generation->ranks[k];
    world_->After(rank.process, Soon() * rank.process->slowness,
                  [this, generation, k] { MemberLaunch(generation, k); });
  }
  if (host_) {
    world_->After(Soon(),
                  [this, generation, index] { Complete(generation, generation->root, index); });
  }
  Advance(generation);
}

void DataPlane::MemberLaunch(Generation* generation, size_t rank) {
  const size_t index = generation->ranks[rank].operations;
  if (!Launch(generation, rank)) return;
  if (host_) {
    world_->After(Soon(), [this, generation, rank, index] { Complete(generation, rank, index); });
    return;
  }
  // One kernel over all ranks: it ends once all have launched it.
  if (generation->operations[index].launches < generation->ranks.size()) return;
  for (size_t k = 0; k < generation->ranks.size(); ++k) {
    world_->After(Soon(), [this, generation, k, index] { Complete(generation, k, index); });
  }
}

// The device's part, then the process's.
void DataPlane::Complete(Generation* generation, size_t index, size_t number) {
  Rank& rank = generation->ranks[index];
  const Operation& operation = generation->operations[number];
  if (rank.closed || !rank.process->alive || rank.key != operation.key) return;
  if (index != generation->root) {
    const std::vector<uint32_t>& cells = rank.plan->steps[operation.step];
    for (size_t k = 0; k < cells.size(); ++k) {
      rank.user->WriteWord(operation.key, cells[k], operation.words[k]);
    }
  }
  world_->After(rank.process, Duration::zero(), [this, generation, index, key = operation.key] {
    Rank& here = generation->ranks[index];
    if (here.closed || here.key != key) return;
    ++here.completed;
    const bool done = here.completed == here.plan->steps.size();
    if (done && index != generation->root) Tell(generation, index, OkStatus(), "");
    // The root has finished when all members have said so.
    Rank& root = generation->ranks[generation->root];
    const auto all = [&](const Rank& r) {
      return r.begun && r.key == root.key && r.completed == root.plan->steps.size();
    };
    if (done && std::all_of(generation->ranks.begin(), generation->ranks.end(), all)) {
      Tell(generation, generation->root, OkStatus(), "");
    }
    Advance(generation);
  });
}

void DataPlane::Tell(Generation* generation, size_t index, const Status& status,
                     const std::string& culprit) {
  Rank& rank = generation->ranks[index];
  if (rank.closed || std::exchange(rank.told, true)) return;
  world_->After(rank.process, Soon() * rank.process->slowness,
                [user = rank.user, key = rank.key, status, culprit] {
                  user->Streamed(key, status, culprit);
                });
  if (!status.ok() && status.code() != StatusCode::kUnavailable) {
    TellPeersOfLoss(generation, rank.process->name);
  }
}

void DataPlane::TellPeersOfLoss(Generation* generation, const std::string& culprit) {
  if (!host_) return;
  for (size_t k = 0; k < generation->ranks.size(); ++k) {
    const Rank& rank = generation->ranks[k];
    if (rank.process == nullptr || !rank.begun || rank.told) continue;
    world_->After(rank.process, world_->random.Between(Microseconds(100), Milliseconds(20)),
                  [this, generation, k, culprit, key = rank.key] {
                    if (generation->ranks[k].key != key) return;
                    Tell(generation, k, Unavailable("a peer of the transfer is gone"), culprit);
                  });
  }
}

void DataPlane::Halt(Process* process) {
  Generation* generation = nullptr;
  if (Rank* rank = Find(process, &generation); rank != nullptr) rank->halted = true;
}

void DataPlane::Close(Process* process) {
  Generation* generation = nullptr;
  Rank* rank = Find(process, &generation);
  if (rank == nullptr || std::exchange(rank->closed, true)) return;
  TellPeersOfLoss(generation, process->name);
}

size_t DataPlane::Launched(Process* process) const {
  const Rank* rank = Find(process);
  return rank == nullptr || !rank->begun ? 0 : rank->launched;
}

bool DataPlane::Streaming(const Process* process) const {
  const Rank* rank = Find(process);
  return rank != nullptr && rank->begun && !rank->told && !rank->closed;
}

}  // namespace packcast::sim
