// A trainer's machine under any events: see MemberWorld. Its user calls and gives up; each call is
// resolved once.
#include <cstdint>
#include <map>

#include "runtime/base/check.h"
#include "tests/fuzz/member_world.h"

namespace packcast::fuzz {
namespace {

class TrainerWorld final : public MemberWorld {
 public:
  explicit TrainerWorld(Input* in) : MemberWorld(in), machine_(ConfigOf(in, Role::kTrainer)) {}

  // Of calls that were sent the fate is known when the coordinator has gone; others can be given
  // up.
  void CheckResolves() {
    if (stopped_) return;
    for (uint64_t label = 0; label < kLabels; ++label) Cancel(label);
    PC_CHECK(machine_.open_calls() == 0) << "S8: a call is never resolved";
    for (const auto& [label, open] : open_) PC_CHECK(open == 0) << "S8: sync(" << label << ")";
  }

 private:
  static constexpr uint64_t kLabels = 4;

  const MemberMachine& member() const override { return machine_.member(); }
  MemberEffects Feed(const MemberEvent& event) override { return machine_.On(event, Time()); }
  Status CheckMachine() const override { return machine_.CheckInvariants(); }

  void StepOwn() override {
    const uint8_t bits = in_.Byte();
    const uint64_t label = bits % kLabels;
    if (bits < 128) {
      UserSync sync{label, SyncKind::kFull, PickManifest(), bits >= 96, std::nullopt};
      if (in_.OneIn(8)) sync.held = std::vector<RowRange>{{0, 1}};
      ++open_[label];
      TakeAll(machine_.On(sync, Time()));
    } else if (bits < 192) {
      Cancel(label);
    } else {
      const WireStatus status = WireStatus::From(bits < 224 ? OkStatus() : Busy("a test"));
      On(MemberEvent(CoordinatorMessage(SyncDone{"default", label, status, {}})));
    }
  }

  void Cancel(uint64_t label) { TakeAll(machine_.On(UserCancel{label}, Time())); }

  void TakeFinished(const SyncFinished& finished) override {
    PC_CHECK(open_[finished.label]-- > 0) << "S8: sync(" << finished.label << ") resolved twice";
  }

  TrainerMachine machine_;
  std::map<uint64_t, int> open_;
};

}  // namespace
}  // namespace packcast::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  packcast::fuzz::Input in(data, size);
  packcast::fuzz::TrainerWorld world(&in);
  world.Run();
  world.CheckRests();
  world.CheckResolves();
  return 0;
}
