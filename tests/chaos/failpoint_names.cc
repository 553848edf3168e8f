#include "tests/chaos/failpoint_names.h"

#include <set>
#include <sstream>
#include <utility>

namespace packcast::chaos {
namespace {

// What comes after the dot. From a state: where a step may lead.
constexpr std::pair<const char*, const char*> kSteps[] = {
    {"coordinator.idle", "idle wait_replicas offers"},
    {"coordinator.wait_replicas", "idle wait_replicas offers"},
    {"coordinator.offers", "idle offers prepare quiesce transfer install abort"},
    {"coordinator.prepare", "idle offers prepare rendezvous quiesce transfer abort"},
    {"coordinator.rendezvous", "idle offers rendezvous quiesce transfer abort"},
    {"coordinator.quiesce", "idle offers quiesce transfer abort"},
    {"coordinator.transfer", "idle offers transfer install abort"},
    {"coordinator.install", "idle wait_replicas offers install"},
    {"coordinator.abort", "idle wait_replicas offers prepare install abort"},
    {"coordinator.send",
     "welcome expelled sync.wanted manifest.part propose prepare rendezvous quiesce start commit "
     "abort drain sync.done manifest.wanted shutdown"},
    {"trainer.out", "out idle"},
    {"trainer.idle", "out idle proposed preparing broken"},
    {"trainer.proposed", "out idle proposed preparing broken"},
    {"trainer.preparing", "preparing prepared streaming broken aborting"},
    {"trainer.prepared", "prepared joining streaming broken aborting"},
    {"trainer.joining", "prepared joining broken aborting"},
    {"trainer.streaming", "idle streaming streamed broken halting aborting"},
    {"trainer.streamed", "idle streamed halting aborting"},
    {"trainer.broken", "broken halting aborting"},
    {"trainer.halting", "halting halted aborting"},
    {"trainer.halted", "halted aborting"},
    {"trainer.aborting", "out idle proposed aborting"},
    {"trainer.send",
     "join manifest.part sync.call sync.cancel offer prepared refused generation.joined staged "
     "failed halted aborted"},
    {"worker.out", "out idle"},
    {"worker.idle", "out idle proposed preparing broken"},
    {"worker.proposed", "out idle proposed preparing broken"},
    {"worker.preparing", "preparing prepared streaming broken aborting"},
    {"worker.prepared", "prepared joining quiescing streaming broken aborting"},
    {"worker.joining", "prepared joining broken aborting"},
    {"worker.quiescing", "prepared quiescing broken aborting"},
    {"worker.streaming", "idle streaming streamed staged broken aborting"},
    {"worker.streamed", "idle streamed aborting"},
    {"worker.staged", "staged installing aborting"},
    {"worker.installing", "out idle installing"},
    {"worker.broken", "broken aborting"},
    {"worker.aborting", "out idle proposed aborting"},
    {"worker.send",
     "join manifest.part offer prepared refused generation.joined quiesced staged installed failed "
     "aborted"}};

constexpr std::pair<const char*, const char*> kWork[] = {
    {"trainer", "prepare join abort"},
    {"worker", "prepare join quiesce install abort"},
    {"root", "launch seal"},
    {"member", "unpack"}};

const std::set<std::string> kRare = {
    // Only where replicas commit alone: an attempt that is given up when some are through.
    "coordinator.abort.install",
    // A catch-up that gives way to somebody who joins, or to a sync.
    "coordinator.prepare.idle",
    "coordinator.rendezvous.idle",
    "coordinator.quiesce.idle",
    "coordinator.transfer.idle",
    "coordinator.rendezvous.offers",
    "coordinator.quiesce.offers",
    // A rendezvous that comes twice.
    "trainer.prepared.broken",
    "worker.prepared.broken",
    "trainer.aborting.proposed",
    "trainer.idle.broken",
    "trainer.proposed.broken",
    "worker.idle.broken",
    "worker.proposed.broken",
    "worker.quiescing.broken",  // no engine of the simulation refuses to be quiet
    "worker.streamed.streamed",
};

const std::set<std::string> kSimulated = {
    // The programs call the next sync when the last one has ended, so none is pending there.
    "coordinator.install.offers",
    "coordinator.install.wait_replicas",
    // Nobody is left to confirm the abort: all are lost before one loss is told.
    "coordinator.offers.idle",
    // The last word of an attempt overtakes what was said before.
    "coordinator.offers.install",
    "trainer.streaming.idle",
    // The sources of these programs stop at once.
    "trainer.halting.halting",
    "trainer.halting.aborting",
    // In these states each message that comes in order leads on.
    "trainer.broken.broken",
    "worker.preparing.preparing",
    "worker.joining.joining",
    "worker.quiescing.quiescing",
    "worker.streaming.streaming",
    "worker.staged.staged",
    "worker.broken.broken",
};

}  // namespace

std::vector<FailpointName> FailpointNames() {
  std::vector<FailpointName> names;
  const auto add = [&](const auto& table, bool is_step) {
    for (const auto& [first, rest] : table) {
      std::istringstream words(rest);
      for (std::string word; words >> word;) {
        const std::string name = std::string(first) + "." + word;
        names.push_back({name, is_step, !is_step, kRare.contains(name), kSimulated.contains(name)});
      }
    }
  };
  add(kSteps, true);
  add(kWork, false);
  return names;
}

}  // namespace packcast::chaos
