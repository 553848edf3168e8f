#include "tests/sim/coverage.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace packcast::sim {
namespace {

constexpr std::array kRoles = {Who::kTrainer, Who::kWorker, Who::kProvider, Who::kCoordinator};

size_t StatesOf(Who who) { return who == Who::kCoordinator ? kCoordinatorStates : kMemberStates; }

std::string StateName(Who who, size_t state) {
  if (who != Who::kCoordinator) {
    return std::string(MemberPhaseName(static_cast<MemberPhase>(state)));
  }
  if (state == 0) return "no epoch";
  const auto phase = static_cast<EpochPhase>((state - 1) % kEpochPhases);
  return (CatchesUp(state) ? "catch-up " : "") + std::string(EpochPhaseName(phase));
}

// The phase in which a member's own work fails so; nothing for what comes from outside.
std::optional<MemberPhase> PhaseOf(Fault fault) {
  switch (fault) {
    case Fault::kRefuse: return MemberPhase::kPreparing;
    case Fault::kJoinFails: return MemberPhase::kJoining;
    case Fault::kStreamFails: return MemberPhase::kStreaming;
    case Fault::kInstallFails: return MemberPhase::kInstalling;
    case Fault::kWedge: return MemberPhase::kAborting;
    case Fault::kKillWorker:
    case Fault::kKillTrainer:
    case Fault::kKillCoordinator:
    case Fault::kFreeze:
    case Fault::kSleep:
    case Fault::kZombie:
    case Fault::kTwin:
    case Fault::kPartition:
    case Fault::kOneWay:
    case Fault::kSwizzle:
    case Fault::kBulkCut:
    case Fault::kFlap:
    case Fault::kReplay:
    case Fault::kSlow:
    case Fault::kSplitBrain:
    case Fault::kRival:
    case Fault::kTorn: return std::nullopt;
  }
  return std::nullopt;
}

// States that this role is never in.
bool IsAnothers(size_t state, Who who) {
  if (who == Who::kCoordinator) {  // a catch-up begins with those that are there
    return state == StateOfCatchUp(EpochPhase::kWaitReplicas);
  }
  switch (static_cast<MemberPhase>(state)) {
    case MemberPhase::kQuiescing:
    case MemberPhase::kStaged:
    case MemberPhase::kInstalling: return who != Who::kWorker;
    case MemberPhase::kStreamed: return who == Who::kWorker;
    case MemberPhase::kHalting:
    case MemberPhase::kHalted: return who != Who::kTrainer;
    case MemberPhase::kIdle:
    case MemberPhase::kProposed: return who == Who::kProvider;
    case MemberPhase::kPreparing:
    case MemberPhase::kPrepared:
    case MemberPhase::kJoining:
    case MemberPhase::kStreaming:
    case MemberPhase::kBroken:
    case MemberPhase::kAborting: return false;
  }
  return false;
}

// The mark of a cell that is empty by rule; nothing if it must not be.
std::string_view Excluded(Fault fault, Who who, size_t state) {
  if (IsAnothers(state, who)) return "s";
  if (!Befalls(fault, who)) return "r";
  const std::optional<MemberPhase> phase = PhaseOf(fault);
  return phase && static_cast<MemberPhase>(state) != *phase ? "w" : "";
}

constexpr std::string_view kLegend =
    R"(An empty cell has a reason.
s: the role is never in that state. A provider is a worker that others catch up from, from its
   contract on; until then, and when it has ended, it is a worker like others.
r: the fault does not befall that role: a network's faults strike at members, and to the one that is
   cut off the coordinator is as well; split-brain is of coordinators, rival of trainers,
   install-fails of who receives.
w: it is that of the member's own work in another state.
In most seeds all clocks are skewed and drift, in every state.
)";

template <class Visit>
void ForEachCell(Visit visit) {
  for (const Who who : kRoles) {
    for (size_t state = 0; state < StatesOf(who); ++state) {
      for (size_t k = 0; k < kFaults; ++k) visit(static_cast<Fault>(k), who, state);
    }
  }
}

}  // namespace

void Coverage::Add(const Coverage& other) {
  ForEachCell([&](Fault fault, Who who, size_t state) {
    CountOf(fault, who, state) += other.CountOf(fault, who, state);
  });
}

std::vector<std::string> Coverage::Missing() const {
  std::vector<std::string> missing;
  ForEachCell([&](Fault fault, Who who, size_t state) {
    if (CountOf(fault, who, state) > 0 || !Excluded(fault, who, state).empty()) return;
    missing.push_back(std::string(FaultName(fault)) + " of a " + std::string(WhoName(who)) +
                      " in state \"" + StateName(who, state) + "\"");
  });
  return missing;
}

std::string Coverage::Table() const {
  std::ostringstream out;
  constexpr size_t kColumns = 11;  // as many as a wide terminal shows
  for (size_t first = 0; first < kFaults; first += kColumns) {
    AddBlock(first, std::min(first + kColumns, kFaults), &out);
  }
  out << kLegend;
  return out.str();
}

// The columns of some of the faults.
void Coverage::AddBlock(size_t first, size_t last, std::ostringstream* out) const {
  constexpr int kLabel = 26;
  *out << std::left << std::setw(kLabel) << "role, state" << std::right;
  const auto width = [](size_t k) {
    constexpr size_t kWidthMin = 9;
    return static_cast<int>(std::max(kWidthMin, FaultName(static_cast<Fault>(k)).size() + 1));
  };
  for (size_t k = first; k < last; ++k) {
    *out << std::setw(width(k)) << FaultName(static_cast<Fault>(k));
  }
  ForEachCell([&](Fault fault, Who who, size_t state) {
    const auto k = static_cast<size_t>(fault);
    if (k < first || k >= last) return;
    if (k == first) {
      const std::string label = std::string(WhoName(who)) + ", " + StateName(who, state);
      *out << "\n" << std::left << std::setw(kLabel) << label << std::right;
    }
    const uint64_t count = CountOf(fault, who, state);
    const std::string_view mark = Excluded(fault, who, state);
    *out << std::setw(width(k));
    if (count == 0 && !mark.empty()) {
      *out << mark;
    } else {
      *out << count;
    }
  });
  *out << "\n\n";
}

}  // namespace packcast::sim
