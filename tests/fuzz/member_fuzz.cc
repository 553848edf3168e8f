// A worker's machine under any events: see MemberWorld.
#include <cstdint>

#include "tests/fuzz/member_world.h"

namespace packcast::fuzz {
namespace {

class WorkerWorld final : public MemberWorld {
 public:
  explicit WorkerWorld(Input* in) : MemberWorld(in), machine_(ConfigOf(in, Role::kWorker)) {}

 private:
  const MemberMachine& member() const override { return machine_; }
  MemberEffects Feed(const MemberEvent& event) override { return machine_.On(event, Time()); }
  Status CheckMachine() const override { return machine_.CheckInvariants(); }

  MemberMachine machine_;
};

}  // namespace
}  // namespace packcast::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  packcast::fuzz::Input in(data, size);
  packcast::fuzz::WorkerWorld world(&in);
  world.Run();
  world.CheckRests();
  return 0;
}
