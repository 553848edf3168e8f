#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/actor/new_actor.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

// An actor that does what the ledger's jobs say, and tells it.
class Servant {
 public:
  Servant(Life* life, Lineage* lineage) : life_(life), lineage_(lineage) {}
  static void Methods(MethodTable<Servant>& table);

  void OnStart(Context& context);
  void OnTimer(Context& context, TimerId timer);
  void OnStop(Context& context);

  // A message of one of the groups.
  Future<int64_t> Default(Context& context, int64_t id, const std::string& padding);
  StatusOr<int64_t> Single(Context& context, int64_t id, const std::string& padding);
  StatusOr<int64_t> Wide(Context& context, int64_t id, const std::string& padding);

  static StatusOr<TypedRef<Servant>> Spawn(Life* life, const ServantPlan& plan);

 private:
  StatusOr<int64_t> Do(Context& context, int64_t id, Lane lane);

  Life* const life_;
  Lineage* const lineage_;
};

}  // namespace packcast::rtsim
