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

Bytes DataPlane::MakeRendezvous(const EpochKey& key, GenerationId id, const Flow& flow,
                                const MemberId& maker) {
  const auto known = std::find_if(generations_.begin(), generations_.end(), [&](const auto& g) {
    return g.term == key.term && g.id == id && g.Carries(flow);
  });
  Generation& generation = known == generations_.end() ? generations_.emplace_back() : *known;
  if (generation.ranks.empty()) {
    generation.term = key.term;
    generation.id = id;
    generation.transport = flow.transport;
    generation.members = flow.members;
    generation.root = flow.root;
    generation.relays = flow.relays;
    generation.ranks.resize(generation.members.size());
    generation.granted.resize(generation.members.size());
  }
  uint64_t& blob = generation.blobs[*flow.RankOf(maker)];
  if (blob != 0) world_->Violate("S4: " + maker.name + " makes two rendezvous of one generation");
  blob = Mix(++blobs_);
  return BlobOf(blob);
}

bool DataPlane::Generation::Carries(const Flow& flow) const {
  const auto same = [](const FlowMember& a, const FlowMember& b) { return a.member == b.member; };
  return transport == flow.transport && root == flow.root && relays == flow.relays &&
         std::equal(members.begin(), members.end(), flow.members.begin(), flow.members.end(), same);
}

std::pair<DataPlane::Generation*, uint32_t> DataPlane::OfBlob(const Bytes& blob) {
  for (auto it = generations_.rbegin(); it != generations_.rend(); ++it) {
    for (const auto& [rank, made] : it->blobs) {
      if (BlobOf(made) == blob) return {&*it, rank};
    }
  }
  return {nullptr, 0};
}

const std::vector<DataPlane::Seat>& DataPlane::SeatsOf(const Process* process) const {
  static const std::vector<Seat> kNone;
  const auto found = seats_.find(process);
  return found == seats_.end() ? kNone : found->second;
}

const DataPlane::Seat* DataPlane::Find(const Process* process, GenerationId id) const {
  for (const Seat& seat : SeatsOf(process)) {
    if (seat.generation->id == id) return &seat;
  }
  return nullptr;
}

bool DataPlane::Lives(const Process* process, GenerationId generation) const {
  return Find(process, generation) != nullptr;
}

void DataPlane::Join(Process* process, StreamUser* user, const EpochKey& key, GenerationId id,
                     const Flow& flow, const Bytes& blob, bool fails) {
  const auto [generation, maker] = OfBlob(blob);
  if (generation == nullptr) return world_->Violate("S4: a rendezvous blob that nobody made");
  if (generation->id != id || generation->term != key.term) {
    return world_->Violate("S4: the blob of generation " + std::to_string(generation->id.value) +
                           " is used for generation " + std::to_string(id.value));
  }
  const MemberId self{process->name, process->incarnation};
  if (!generation->Carries(flow)) {
    return world_->Violate("S4: " + self.name + " joins a generation that was made for others");
  }
  const std::optional<uint32_t> index = flow.RankOf(self);
  if (!index) {
    return world_->Violate("S4: " + self.name + " joins a generation that it is no member of");
  }
  if (maker != flow.FeederOf(*index)) {
    return world_->Violate("S4: " + self.name +
                           " got the rendezvous of a rank that does not feed it");
  }
  Rank& rank = generation->ranks[*index];
  if (rank.process != nullptr) return world_->Violate("S4: a rank joined a generation twice");
  if (Lives(process, id))
    return world_->Violate("S4: a rank joined beside a life of the same name");
  rank.process = process;
  rank.user = user;
  rank.joined_for = key;
  rank.joined_flow = flow.id;
  seats_[process].push_back({generation, *index});
  if (!fails) return TellJoined(generation);
  rank.told_joined = true;
  world_->After(process, Soon(), [user, key, flow = flow.id] {
    user->Joined(key, flow, Internal("injected: the transport did not come up"));
  });
}

void DataPlane::TellJoined(Generation* generation) {
  for (const Rank& rank : generation->ranks) {
    if (rank.process == nullptr || rank.closed) return;  // the others wait
  }
  for (Rank& rank : generation->ranks) {
    if (std::exchange(rank.told_joined, true)) continue;
    world_->After(rank.process, world_->Work(rank.process, Microseconds(50), Milliseconds(5)),
                  [user = rank.user, key = rank.joined_for, flow = rank.joined_flow] {
                    user->Joined(key, flow, OkStatus());
                  });
  }
}

// ---- streams ------------------------------------------------------------------------------------

void DataPlane::Begin(Process* process, GenerationId id, const StreamOptions& options) {
  const Seat* seat = Find(process, id);
  if (seat == nullptr) return world_->Violate("S3: a stream without a generation");
  Generation* generation = seat->generation;
  if (generation->term != options.key.term) {
    return world_->Violate("S6: a stream over a generation of another coordinator");
  }
  if (!generation->Carries(*options.flow)) {
    return world_->Violate("S4: " + process->name + " streams over a generation of other members");
  }
  Rank& rank = generation->ranks[seat->rank];
  if (rank.begun && !rank.told) return world_->Violate("S9: two streams at once");
  rank.key = options.key;
  rank.flow = options.flow->id;
  rank.plan = options.plan;
  rank.buffer_count = options.buffer_count;
  rank.fails_at = options.fails_at;
  rank.begun = true;
  rank.told = rank.halted = false;
  rank.launched = rank.completed = rank.read = rank.passed_on = 0;
  SayBegun(generation, seat->rank);
  if (seat->rank != generation->root) Grant(generation, seat->rank);
}

// To those that it feeds.
void DataPlane::SayBegun(Generation* generation, size_t feeder) {
  const Rank& from = generation->ranks[feeder];
  for (size_t k = 0; k < generation->ranks.size(); ++k) {
    if (!generation->Feeds(feeder, k)) continue;
    if (world_->mutation() != Mutation::kGrantsOfLastStream) generation->granted[k] = 0;
    Carry(from.process, generation->ranks[k].process, [this, generation, k, key = from.key] {
      const Rank& rank = generation->ranks[k];
      if (rank.begun && rank.key == key) Grant(generation, k);
    });
  }
  Advance(generation);  // for mutations: nothing is granted yet
}

// The member tells who feeds it of all steps for which it has room, and how many it has read; what
// arrives late or out of order says nothing new.
void DataPlane::Grant(Generation* generation, size_t index) {
  const Rank& rank = generation->ranks[index];
  if (rank.closed || rank.halted || rank.told) return;
  const size_t spent = world_->mutation() == Mutation::kRelayGrantsTooEarly
                           ? rank.completed
                           : generation->SpentBy(index);
  const size_t steps = std::min(spent + rank.buffer_count, rank.plan->steps.size());
  const size_t feeder = generation->FeederOf(index);
  Carry(rank.process, generation->ranks[feeder].process,
        [this, generation, index, feeder, steps, read = rank.completed, key = rank.key] {
          Rank& to = generation->ranks[feeder];
          if (!to.begun || to.key != key) return;  // stale, or not begun here yet
          size_t& granted = generation->granted[index];
          granted = std::max(granted, steps);
          to.read = std::max(to.read, read);
          if (feeder == generation->root) return Advance(generation);
          PassOn(generation, feeder);
          Grant(generation, feeder);
        });
}

// A rank of a chain launches at the next one what has arrived here, as far as that one has room.
void DataPlane::PassOn(Generation* generation, size_t index) {
  const size_t next = generation->NextOf(index);
  Rank& rank = generation->ranks[index];
  if (next == generation->ranks.size() || rank.closed || rank.halted || rank.told) return;
  const size_t granted = world_->mutation() == Mutation::kRelayWithoutGrants
                             ? rank.completed
                             : generation->granted[next];
  for (; rank.passed_on < std::min(rank.completed, granted); ++rank.passed_on) {
    Carry(rank.process, generation->ranks[next].process,
          [this, generation, next] { MemberLaunch(generation, next); });
  }
}

bool DataPlane::RootMayLaunch(const Generation& generation) const {
  const Rank& root = generation.ranks[generation.root];
  if (!root.begun || root.told || root.halted || root.closed || root.launching) return false;
  if (root.launched >= root.plan->steps.size()) return false;
  if (root.launched >= root.completed + root.buffer_count) return false;
  if (!root.user->Ready(root.key, root.plan->steps[root.launched])) return false;
  if (world_->mutation() == Mutation::kEarlyWithoutGrants) return true;
  for (size_t k = 0; k < generation.ranks.size(); ++k) {
    if (generation.Feeds(generation.root, k) && generation.granted[k] <= root.launched) {
      return false;
    }
  }
  return true;
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
  if (operation.key != rank.key || operation.flow != rank.flow ||
      operation.plan != rank.plan->digest || operation.step != rank.launched) {
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
    generation->operations.push_back(
        {root.key, root.flow, root.plan->digest, root.launched, 0, {}});
  }
  const size_t step = root.launched;
  const size_t index = root.operations;
  if (!Launch(generation, generation->root)) return;
  Operation& operation = generation->operations[index];
  for (const uint32_t cell : root.plan->steps[step]) {
    operation.words.push_back(root.user->ReadWord(root.key, root.flow, cell));
  }
  for (size_t k = 0; k < generation->ranks.size(); ++k) {
    if (!generation->Feeds(generation->root, k)) continue;
    Carry(root.process, generation->ranks[k].process,
          [this, generation, k] { MemberLaunch(generation, k); });
  }
  if (host_ || generation->relays) {
    world_->After(Soon(),
                  [this, generation, index] { Complete(generation, generation->root, index); });
  }
  Advance(generation);
}

// At the member, which knows what it has granted: nothing that the root launches may reach a rank
// that is not in this very attempt, or has no room. One that gave up meanwhile takes no notice.
void DataPlane::CheckGranted(const Generation& generation, size_t index) {
  const Rank& rank = generation.ranks[index];
  if (rank.closed || rank.halted) return;
  const Operation& operation = generation.operations[rank.operations];
  const bool here = rank.begun && rank.key == operation.key;
  if (here && operation.step < generation.SpentBy(index) + rank.buffer_count) return;
  world_->Violate("S3: the root launches what " + rank.process->name + " has not granted");
}

void DataPlane::MemberLaunch(Generation* generation, size_t rank) {
  const size_t index = generation->ranks[rank].operations;
  CheckGranted(*generation, rank);
  if (!Launch(generation, rank)) return;
  if (host_ || generation->relays) {  // each copies by itself
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
      rank.user->WriteWord(operation.key, operation.flow, cells[k], operation.words[k]);
    }
  }
  world_->After(rank.process, Duration::zero(), [this, generation, index, key = operation.key] {
    Rank& here = generation->ranks[index];
    if (here.closed || here.key != key) return;
    ++here.completed;
    if (index != generation->root) Grant(generation, index);
    if (index != generation->root) PassOn(generation, index);
    if (here.completed == here.plan->steps.size()) TellFinished(generation);
    Advance(generation);
  });
}

// A member has finished when it has all, and all after it in a chain have; the root when all have.
void DataPlane::TellFinished(Generation* generation) {
  Rank& root = generation->ranks[generation->root];
  const auto has_all = [&](const Rank& rank) {
    return rank.begun && rank.key == root.key && rank.completed == rank.plan->steps.size();
  };
  for (size_t k = 0; k < generation->ranks.size(); ++k) {
    bool all = true;
    for (size_t at = k; all && at < generation->ranks.size(); at = generation->NextOf(at)) {
      all = has_all(generation->ranks[at]);
    }
    if (all && k != generation->root) Tell(generation, k, OkStatus(), "");
  }
  if (std::all_of(generation->ranks.begin(), generation->ranks.end(), has_all)) {
    Tell(generation, generation->root, OkStatus(), "");
  }
}

void DataPlane::Tell(Generation* generation, size_t index, const Status& status,
                     const std::string& culprit) {
  Rank& rank = generation->ranks[index];
  if (rank.closed || std::exchange(rank.told, true)) return;
  world_->After(rank.process, Soon() * rank.process->slowness,
                [user = rank.user, key = rank.key, flow = rank.flow, status, culprit] {
                  user->Streamed(key, flow, status, culprit);
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

// ---- cables -------------------------------------------------------------------------------------

DataPlane::Cable& DataPlane::CableOf(const std::string& a, const std::string& b) {
  return cables_[std::minmax(a, b)];
}

void DataPlane::Carry(const Process* from, Process* to, std::function<void()> what) {
  const Duration wait = Soon() * std::max(from->slowness, to->slowness);
  Cable& cable = CableOf(from->name, to->name);
  if (cable.cut) {
    cable.held.emplace_back(to, std::move(what));
  } else {
    world_->After(to, wait, std::move(what));
  }
}

void DataPlane::Cut(const std::string& a, const std::string& b) {
  Cable& cable = CableOf(a, b);
  if (std::exchange(cable.cut, true) || !host_) return;
  world_->After(world_->random.Between(Milliseconds(900), Seconds(3)),
                [this, a, b] { NoticeCut(a, b); });
}

// Each of the two names the other one; over the wire of a device nobody notices.
void DataPlane::NoticeCut(const std::string& a, const std::string& b) {
  if (!CableOf(a, b).cut) return;
  for (Generation& generation : generations_) {
    for (size_t k = 0; k < generation.ranks.size(); ++k) {
      const Rank& rank = generation.ranks[k];
      if (rank.process == nullptr || rank.closed || !rank.begun) continue;
      const std::string& feeder = generation.members[generation.FeederOf(k)].member.name;
      if (std::minmax(rank.process->name, feeder) != std::minmax(a, b)) continue;
      Tell(&generation, k, Unavailable("the link is silent"), feeder);
      Tell(&generation, generation.FeederOf(k), Unavailable("the link is silent"),
           rank.process->name);
    }
  }
}

void DataPlane::Heal(const std::string& a, const std::string& b) {
  Cable& cable = CableOf(a, b);
  cable.cut = false;
  for (auto& [to, what] : std::exchange(cable.held, {})) {
    world_->After(to, Soon(), std::move(what));
  }
}

// ---- ends ---------------------------------------------------------------------------------------

void DataPlane::BreakOff(Process* process, GenerationId id) {
  const Seat* seat = Find(process, id);
  if (seat == nullptr) return world_->Violate("S9: a stream is broken off that has no generation");
  (*seat)->halted = true;
  // One that has ended here is broken all the same, for those who are not so far.
  if ((*seat)->told) return TellPeersOfLoss(seat->generation, process->name);
  Tell(seat->generation, seat->rank, Aborted("another flow failed"), "");
}

void DataPlane::Expire(Process* process, GenerationId id) {
  const Seat* seat = Find(process, id);
  if (seat == nullptr || (*seat)->told) return;
  Tell(seat->generation, seat->rank, DeadlineExceeded("the transfer is past its deadline"), "");
}

void DataPlane::Wake(Process* process) {
  for (const Seat& seat : std::vector<Seat>(SeatsOf(process))) {
    if (seat.rank == seat.generation->root) Advance(seat.generation);
  }
}

void DataPlane::Halt(Process* process) {
  for (const Seat& seat : SeatsOf(process)) seat->halted = true;
}

void DataPlane::Close(Process* process, GenerationId id) {
  const auto found = seats_.find(process);
  if (found == seats_.end()) return;
  std::erase_if(found->second, [&](const Seat& seat) {
    if (seat.generation->id != id) return false;
    seat->closed = true;
    TellPeersOfLoss(seat.generation, process->name);
    return true;
  });
}

void DataPlane::Close(Process* process) {
  const std::vector<Seat> open = SeatsOf(process);
  for (const Seat& seat : open) Close(process, seat.generation->id);
}

bool DataPlane::Streaming(const Process* process) const {
  const std::vector<Seat>& seats = SeatsOf(process);
  return std::any_of(seats.begin(), seats.end(),
                     [](const Seat& seat) { return seat->begun && !seat->told; });
}

}  // namespace packcast::sim
