// The bulk lane: its headers, pieces and rendezvous from any bytes, and a member's ledger under
// whatever a root says, while the member keeps to the rules.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/data/collective.h"
#include "runtime/data/stream_ledger.h"
#include "runtime/data/zmq_wire.h"
#include "tests/fuzz/input.h"

using namespace packcast;

namespace {

Bytes BytesOf(std::string_view text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

void TryHeader(std::string_view text) {
  zmq_bulk::Header header;
  const Bytes bytes = BytesOf(text);
  if (!zmq_bulk::DecodeHeader(bytes, &header)) return;
  PC_CHECK(zmq_bulk::EncodeHeader(header) == text);
}

void TryPieces(std::string_view text) {
  std::vector<uint64_t> pieces;
  const Bytes bytes = BytesOf(text);
  if (!zmq_bulk::DecodePieces(bytes, &pieces)) return;
  PC_CHECK(zmq_bulk::EncodePieces(pieces) == text);
}

void TryBlob(std::string_view text) {
  const StatusOr<zmq_bulk::Blob> blob = zmq_bulk::DecodeBlob(BytesOf(text));
  if (!blob.ok()) return;
  const StatusOr<zmq_bulk::Blob> again = zmq_bulk::DecodeBlob(zmq_bulk::EncodeBlob(*blob));
  PC_CHECK(again.ok() && again->endpoint == blob->endpoint && again->token == blob->token);
}

// A member that grants, launches, completes and releases when its ledger lets it.
class Member {
 public:
  void Step(fuzz::Input* in) {
    switch (in->Below(8)) {
      case 0:
        if (ledger_.Begin().ok()) PC_CHECK(ledger_.granted() == 0 && !ledger_.finished());
        break;
      case 1:
        if (ledger_.CheckGrant(Sequence(ledger_.granted())).ok()) ledger_.Granted();
        break;
      case 2: (void)ledger_.OnGate(TakeGate(in)); break;
      case 3: (void)ledger_.OnSeal(Sequence(Near(in, ledger_.launched())), Digest{1, 2}); break;
      case 4: (void)ledger_.OnEnd(Near(in, ledger_.completed())); break;
      case 5: Launch(in); break;
      case 6:
        if (ledger_.completed() < ledger_.launched()) ledger_.Completed();
        if (ledger_.CheckRelease(Sequence(ledger_.released())).ok()) ledger_.Released();
        break;
      default: (void)ledger_.Finish(); break;
    }
    PC_CHECK(ledger_.launched() <= ledger_.granted()) << "launched more than was granted";
    PC_CHECK(ledger_.completed() <= ledger_.launched());
    PC_CHECK(ledger_.released() <= ledger_.completed());
    PC_CHECK(ledger_.granted() - ledger_.completed() <= kStepsInFlightMax);
    if (ledger_.end()) PC_CHECK(ledger_.launched() <= *ledger_.end());
    const auto unsealed = ledger_.FirstUnsealed();
    if (unsealed) PC_CHECK(!ledger_.SealOf(*unsealed) && unsealed->value < ledger_.completed());
  }

 private:
  static uint64_t Near(fuzz::Input* in, uint64_t number) {
    return in->OneIn(16) ? in->Word() : number + in->Below(3) - 1;
  }
  Gate TakeGate(fuzz::Input* in) {
    next_ = in->OneIn(16) ? in->Word() : next_;
    return {Sequence(next_++), 1 + in->Below(2), in->Below(2), 1, in->Flag(), ""};
  }
  void Launch(fuzz::Input* in) {
    Operation operation;
    operation.sequence = Sequence(ledger_.launched());
    operation.spans.resize(1);
    operation.spans[0].bytes = 1 + in->Below(2);
    operation.first_region = in->Below(2);
    operation.regions = 1;
    operation.sealed = in->Flag();
    bool fatal = false;
    const Status status = ledger_.CheckLaunch(operation, &fatal);
    PC_CHECK(!fatal || !status.ok());
    if (status.ok()) ledger_.Launched();
  }

  MemberLedger ledger_{"worker-0"};
  uint64_t next_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  switch (in.Below(4)) {
    case 0: TryHeader(in.Rest()); break;
    case 1: TryPieces(in.Rest()); break;
    case 2: TryBlob(in.Rest()); break;
    case 3: {
      Member member;
      while (!in.empty()) member.Step(&in);
      break;
    }
  }
  return 0;
}
