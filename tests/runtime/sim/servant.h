#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "runtime/actor/new_actor.h"
#include "tests/runtime/sim/caller.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

// An actor that does what the ledger's jobs say, and tells it. Some send jobs as well.
class Servant {
 public:
  Servant(Life* life, Lineage* lineage, ServantPlan plan);
  static void Methods(MethodTable<Servant>& table);
  // `made`: the new one's lineage.
  static StatusOr<TypedRef<Servant>> Spawn(Life* life, const ServantPlan& plan,
                                           Lineage** made = nullptr);

  void OnStart(Context& context);
  void OnTimer(Context& context, TimerId timer);
  void OnStop(Context& context);

  // A message of one of the groups.
  Future<int64_t> Default(Context& context, int64_t id, const ByteRange& padding);
  StatusOr<int64_t> Single(Context& context, int64_t id, const ByteRange& padding);
  StatusOr<int64_t> Wide(Context& context, int64_t id, const ByteRange& padding);

 private:
  StatusOr<int64_t> Do(Context& context, int64_t id, Lane lane, const ByteRange& padding);
  void DoAct(Context& context, const Job& job);
  void Link(Context& context, const ActorRef& ref);
  void Nudge(Context& context, Caller& caller);
  void Bounce(Context& context, Caller& caller);
  void SpawnChild(Caller& caller);
  void SetTimer(Context& context);
  void Post(Context& context);
  void Await(Context& context, Caller& caller);
  // Who sends from a handler of that group: another one for each that may run beside it.
  std::shared_ptr<Caller> CallerOf(Lane lane) const;
  // Something that was asked for in that life has come, as a message of its own.
  static void Came(World& world, Lineage* lineage, int life, Context& context,
                   std::string_view what);

  Life* const life_;
  World& world_;
  Lineage* const lineage_;
  const ServantPlan plan_;
  std::shared_ptr<Caller> callers_[kLanes];
  int present_ = 0;  // life
};

}  // namespace packcast::rtsim
