#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "actors/epoch.h"
#include "actors/member_machine.h"
#include "protocol/contract.h"
#include "tests/sim/world.h"

namespace packcast::sim {

// What trainers of a seed with two transports prefer, and only some workers offer. A rank for which
// it did not come up once does without it, unless some worker has nothing else.
inline constexpr const char* kNearTransport = "near";
inline constexpr const char* kFarTransport = "far";
// Trainer units: the one that the scenario describes, and another, of one rank, that would take
// its place.
inline constexpr const char* kTrainerUnit = "trainer";
inline constexpr const char* kRivalUnit = "rival";

// Which rows the ranks of the trainer say that they hold.
enum class Held : uint8_t {
  kAll,      // they say nothing
  kParts,    // each row is one rank's
  kOverlap,  // and some are others' too
};

// What a seed stands for.
struct Scenario {
  uint32_t trainer_ranks = 1;
  std::vector<uint32_t> replica_sizes;
  bool two_transports = false;
  bool near_relays = false;   // its receivers pass on what they have
  uint64_t near_workers = 0;  // by number, a bit each: those that offer the near one
  uint64_t only_near = 0;     // and of those, that offer nothing else
  Held held = Held::kAll;
  uint64_t held_seed = 0;
  bool held_varies = false;   // from label to label
  uint64_t can_serve = 0;     // workers by number, a bit each: others may catch up from them
  bool lazy = false;          // the trainer's ranks gather each row together
  Duration gather{};          // and this is about how long it takes them
  bool hears_others = false;  // members' runtimes let through what other coordinators say
  int64_t drift = 0;          // of the processes' clocks, at most: of a thousand
  bool host_transport = true;
  double late_messages = 0;  // chance that one takes much longer
  ContractPolicy policy;
  CommitPolicy commit = CommitPolicy::kAll;
  EpochDeadlines deadlines;
  // The first half: this long, with so many faults of the kinds that the seed allows.
  Duration unrest = Seconds(20);
  uint32_t faults = 0;
  std::vector<Fault> kinds;
  bool Has(Fault fault) const;
  double strike = 0;           // chance of one more with each sync call
  double strike_early = 0;     // and with each stream that a root begins before Start
  double strike_catch_up = 0;  // and with each catch-up
  double strike_brief = 0;     // and with each state that a member soon leaves
  double strike_state = 0;     // and with each other one that anybody enters
  double tear = 0;             // chance that a step is torn, while somebody does anything
  double tear_decision = 0;    // and that of a coordinator that has just decided
  // Chance of local trouble, per piece of local work during the unrest.
  double refuse = 0;
  double join_fails = 0;
  double stream_fails = 0;
  double install_fails = 0;
  double wedge = 0;
  double offer_changes = 0;  // between epochs, when nobody asks
  // Chance that a message about an attempt comes once more, somewhat later.
  double echo = 0;
  // The user.
  uint32_t calls = 8;
  Duration pause_low = Milliseconds(20);
  Duration pause_high = Seconds(2);
  Duration call_deadline = Seconds(30);
  double second_call = 0.3;  // opened while one runs
  double supersede = 0.3;
  double cancel = 0.1;
  double control = 0.3;  // limits, drains, syncs by control
};

// The rows of so many that a rank of a trainer holds for `label`; nothing: all of them. The ranks
// of the scenario's trainer together hold every row, a rival all.
std::optional<std::vector<RowRange>> HeldBy(const Scenario& scenario, const MemberConfig& trainer,
                                            uint64_t rows, uint64_t label);
// In order of preference.
std::vector<TransportOffer> TransportsOf(const Scenario& scenario, Role role, uint64_t number);

// Nobody and nothing disturbs the epochs, so each must commit at its first attempt.
bool IsPeaceful(const Scenario& scenario);

// What a scenario can do without, to find out what a violation needs (shrink.h).
enum class Trait : uint8_t {
  kTwoTransports,
  kTrainerRanks,  // more than one
  kHeldRows,
  kLazy,
  kPairs,  // replicas of several ranks
  kInPlace,
  kLate,
  kEcho,
  kOthersHeard,
  kDrift,
  kOfferChanges,
  kCatchUps,
  kSecondCalls,
  kCancels,
  kControl,
  kEach,  // the commit policy
};
inline constexpr size_t kTraits = 16;
std::string_view TraitName(Trait trait);
std::optional<Trait> TraitOf(std::string_view name);
using Traits = std::set<Trait>;

// `workers`: fixed number of worker ranks, or 0 to let the seed choose 1 to 8. The rest of the
// scenario does not depend on it.
Scenario MakeScenario(uint64_t seed, uint32_t workers, const Traits& without);

}  // namespace packcast::sim
