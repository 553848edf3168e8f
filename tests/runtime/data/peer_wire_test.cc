#include "runtime/data/peer_wire.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/peer_note.h"
#include "tests/runtime/data/broadcast_fixture.h"
#include "tests/runtime/data/host_peer_memory.h"

namespace packcast {
namespace {

using testing::HostPeerMemory;
using testing::PeerHub;

using Memory = std::vector<std::byte>;

Memory Random(size_t bytes, uint64_t seed) {
  std::mt19937_64 rng(seed);
  return testing::RandomBytes(bytes, &rng);
}

Span Part(Memory* memory, size_t offset, size_t bytes) { return {memory->data() + offset, bytes}; }

std::shared_ptr<PeerMemory> Unowned(PeerMemory* memory) {
  return {std::shared_ptr<PeerMemory>(), memory};
}

// A root and a member, without the words of a collective between them.
class PeerWireTest : public ::testing::Test {
 protected:
  PeerWireTest() {
    hub_.Add(probe_.data(), probe_.size());
    hub_.Add(source_.data(), source_.size());
    hub_.Add(other_.data(), other_.size());
    const Bytes handle = here_.Find(probe_.data(), 1)->handle;
    root_ = MakePeerRoot(Unowned(&here_));
    member_ =
        MakePeerMember(Unowned(&there_), {.probe = handle, .scratch = scratch_.data()}).value();
    while (!*member_->Up()) {
    }
  }

  Status Move(uint64_t sequence, std::vector<Span> from, std::vector<Span> to) {
    Operation operation{.sequence = Sequence(sequence), .spans = std::move(from)};
    PC_ASSIGN_OR_RETURN(operation.note, root_->NoteFor(operation));
    note_ = *DecodePeerNote(operation.note);
    operation.spans = std::move(to);
    PC_RETURN_IF_ERROR(member_->Launch(operation));
    ++launched_;
    while (true) {
      PC_ASSIGN_OR_RETURN(const uint64_t completed, member_->Completed());
      if (completed == launched_) return OkStatus();
    }
  }

  PeerHub hub_;
  HostPeerMemory here_{&hub_};
  HostPeerMemory there_{&hub_};
  Memory probe_ = Random(kPeerProbeBytes, 1);
  Memory scratch_ = Memory(kPeerProbeBytes);
  Memory source_ = Random(10'000, 2);
  Memory other_ = Random(10'000, 3);
  Memory target_ = Memory(20'000);
  std::unique_ptr<Wire> root_;
  std::unique_ptr<Wire> member_;
  PeerNote note_;
  uint64_t launched_ = 0;
};

TEST_F(PeerWireTest, TriesTheRootsMemoryBeforeItIsUp) {
  EXPECT_EQ(scratch_, probe_);
  hub_.reachable = false;
  const auto handle = here_.Find(probe_.data(), 1)->handle;
  EXPECT_EQ(MakePeerMember(Unowned(&there_), {.probe = handle, .scratch = scratch_.data()})
                .status()
                .code(),
            StatusCode::kUnimplemented);
}

TEST_F(PeerWireTest, CopiesSpansThatAreCutDifferently) {
  const Status moved = Move(0, {Part(&source_, 100, 300), Part(&other_, 5, 50)},
                            {Part(&target_, 0, 10), Part(&target_, 1000, 340)});
  ASSERT_TRUE(moved.ok()) << moved;
  Memory wanted(source_.begin() + 100, source_.begin() + 400);
  wanted.insert(wanted.end(), other_.begin() + 5, other_.begin() + 55);
  Memory got(target_.begin(), target_.begin() + 10);
  got.insert(got.end(), target_.begin() + 1000, target_.begin() + 1340);
  EXPECT_EQ(got, wanted);
}

TEST_F(PeerWireTest, JoinsWhatIsContiguousOnBothSides) {
  there_.copies = 0;
  const std::vector<Span> from = {Part(&source_, 0, 256), Part(&source_, 256, 256),
                                  Part(&source_, 600, 100)};
  ASSERT_TRUE(Move(0, from, {Part(&target_, 0, 300), Part(&target_, 300, 312)}).ok());
  EXPECT_EQ(note_.parts.size(), 2u);
  EXPECT_EQ(there_.copies, 2);
}

TEST_F(PeerWireTest, NamesAnAllocationOnceAndLetsItGoWhenAStreamDoesNotUseIt) {
  ASSERT_TRUE(Move(0, {Part(&source_, 0, 10)}, {Part(&target_, 0, 10)}).ok());
  EXPECT_EQ(note_.opened.size(), 1u);
  ASSERT_TRUE(Move(1, {Part(&source_, 10, 10)}, {Part(&target_, 0, 10)}).ok());
  EXPECT_TRUE(note_.opened.empty());
  EXPECT_EQ(there_.open.count(source_.data()), 1u);
  // The next stream uses another; the one after lets the first go.
  ASSERT_TRUE(Move(0, {Part(&other_, 0, 10)}, {Part(&target_, 0, 10)}).ok());
  EXPECT_EQ(there_.open.count(source_.data()), 1u);
  ASSERT_TRUE(Move(0, {Part(&other_, 0, 10)}, {Part(&target_, 0, 10)}).ok());
  EXPECT_EQ(there_.open.count(source_.data()), 0u);
  EXPECT_EQ(there_.open.count(other_.data()), 1u);
}

// Other memory at the same address is other memory: it is opened anew.
TEST_F(PeerWireTest, MemoryThatWasAllocatedAgainIsNamedAgain) {
  ASSERT_TRUE(Move(0, {Part(&source_, 0, 10)}, {Part(&target_, 0, 10)}).ok());
  hub_.Remove(source_.data());
  hub_.Add(source_.data(), source_.size());
  ASSERT_TRUE(Move(0, {Part(&source_, 0, 10)}, {Part(&target_, 0, 10)}).ok());
  EXPECT_EQ(note_.opened.size(), 1u);
}

TEST_F(PeerWireTest, MemoryThatCannotBeSharedIsAnError) {
  Memory unknown(100);
  EXPECT_EQ(Move(0, {Part(&unknown, 0, 10)}, {Part(&target_, 0, 10)}).code(),
            StatusCode::kInvalidArgument);
}

TEST_F(PeerWireTest, RefusesNotesThatDoNotFit) {
  const auto launch = [this](const PeerNote& note, uint64_t sequence = 0) {
    Operation operation{.sequence = Sequence(sequence),
                        .spans = {Part(&target_, 0, 100)},
                        .note = EncodePeerNote(note)};
    return member_->Launch(operation).code();
  };
  const PeerNote::Opened opened{1, source_.size(), here_.Find(source_.data(), 1)->handle};
  EXPECT_EQ(launch({.parts = {{1, 0, 100}}}), StatusCode::kInternal);  // never opened
  EXPECT_EQ(launch({.opened = {opened}, .parts = {{1, source_.size() - 50, 100}}}),
            StatusCode::kInternal);
  EXPECT_EQ(launch({.parts = {{1, 0, 99}}}), StatusCode::kInternal);
  EXPECT_EQ(launch({.parts = {{1, 0, 101}}}), StatusCode::kInternal);
  EXPECT_EQ(launch({.parts = {{1, UINT64_MAX - 10, 100}}}), StatusCode::kInternal);
  EXPECT_EQ(launch({.opened = {opened}, .parts = {{1, 0, 100}}}), StatusCode::kInternal);
  EXPECT_EQ(launch({.closed = {1}, .parts = {{1, 0, 100}}}, 3), StatusCode::kInternal);
  EXPECT_EQ(member_->Launch({.spans = {Part(&target_, 0, 1)}, .note = "\xc1"}).code(),
            StatusCode::kInternal);
  EXPECT_EQ(launch({.parts = {{1, 0, 100}}}), StatusCode::kOk);
}

TEST_F(PeerWireTest, InPlaceMapsABufferUntilItIsReleased) {
  member_.reset();
  member_ = MakePeerMember(Unowned(&there_), {.probe = here_.Find(probe_.data(), 1)->handle,
                                              .scratch = scratch_.data(),
                                              .in_place = true})
                .value();
  while (!*member_->Up()) {
  }
  there_.copies = 0;
  const auto launch = [this](std::vector<Span> from, Span to) {
    Operation operation{.spans = std::move(from)};
    operation.note = root_->NoteFor(operation).value();
    operation.spans = {to};
    return member_->Launch(operation);
  };
  ASSERT_TRUE(launch({Part(&source_, 10, 100)}, {nullptr, 100}).ok());
  EXPECT_EQ(*member_->Completed(), 1u);
  EXPECT_EQ(member_->Landed(0)->data(), source_.data() + 10);
  EXPECT_EQ(member_->Landed(0)->size(), 100u);
  EXPECT_FALSE(member_->Landed(1).ok());
  member_->Release();
  EXPECT_FALSE(member_->Landed(0).ok());
  EXPECT_EQ(*member_->Completed(), 1u);
  EXPECT_EQ(there_.copies, 0);
  // One place, of the root's choice.
  EXPECT_FALSE(launch({Part(&source_, 0, 10)}, Part(&target_, 0, 10)).ok());
  EXPECT_FALSE(launch({Part(&source_, 0, 10), Part(&other_, 0, 10)}, {nullptr, 20}).ok());
}

TEST_F(PeerWireTest, AnAbortWaitsForItsOwnCopiesAndTheEndClosesAllMemory) {
  ASSERT_TRUE(Move(0, {Part(&source_, 0, 10)}, {Part(&target_, 0, 10)}).ok());
  EXPECT_EQ(there_.open.size(), 2u);
  EXPECT_TRUE(member_->Abort().ok());
  EXPECT_EQ(there_.drains, 1);
  member_.reset();
  EXPECT_TRUE(there_.open.empty());
}

TEST(PeerNoteTest, GoesThereAndBack) {
  const PeerNote note{.closed = {3, 1},
                      .opened = {{4, 1000, Bytes(64, std::byte{7})}},
                      .parts = {{4, 0, 10}, {2, 5, UINT64_MAX}}};
  const PeerNote back = DecodePeerNote(EncodePeerNote(note)).value();
  EXPECT_EQ(EncodePeerNote(back), EncodePeerNote(note));
  EXPECT_EQ(back.parts[1].bytes, UINT64_MAX);
  EXPECT_FALSE(DecodePeerNote("").ok());
  EXPECT_FALSE(DecodePeerNote("\x80").ok());
}

}  // namespace
}  // namespace packcast
