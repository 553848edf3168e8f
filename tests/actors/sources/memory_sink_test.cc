#include "actors/sources/memory_sink.h"

#include <cstring>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/actors/sources/testing.h"

namespace packcast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<Row> Rows() {
  return {Row{.name = "a", .dtype = Dtype::kU8, .shape = {3}},
          Row{.name = "empty", .dtype = Dtype::kF32, .shape = {0}},
          Row{.name = "s", .dtype = Dtype::kF32}};
}

Manifest Made(std::vector<Row> rows) { return Manifest::Make(std::move(rows)).value(); }

EpochInfo Epoch(uint64_t number, InstallMode mode, uint32_t bank = 0) {
  EpochInfo epoch;
  epoch.version = Version{Term{1, 77}, EpochId(number)};
  epoch.attempt = Attempt(1);
  epoch.install = mode;
  epoch.bank = bank;
  return epoch;
}

EpochInfo Staged(uint64_t number, uint32_t bank) {
  return Epoch(number, InstallMode::kStaged, bank);
}
EpochInfo InPlace(uint64_t number) { return Epoch(number, InstallMode::kInPlace); }

// Writes `fill` into every byte of a bank, and gives the digest of that.
Digest Write(const std::vector<Target>& bank, char fill) {
  ContentHash hash;
  for (const Target& target : bank) {
    if (target.bytes > 0) std::memset(target.memory, fill, target.bytes);
    hash.Add(target.row, target.offset, {target.memory, target.bytes});
  }
  return hash.digest();
}

Status Install(MemorySink& sink, const EpochInfo& epoch) {
  Status result = Internal("done was not called");
  sink.Install(epoch, [&](Status status) { result = std::move(status); });
  return result;
}

Status Quiesce(MemorySink& sink, const EpochInfo& epoch) {
  Status result = Internal("done was not called");
  sink.Quiesce(epoch, [&](Status status) { result = std::move(status); });
  return result;
}

TEST(MemorySink, BindsEveryRowInTwoBanks) {
  MemorySink sink;
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  ASSERT_EQ(binding.banks.size(), 2u);
  for (const auto& bank : binding.banks) {
    ASSERT_EQ(bank.size(), 3u);
    for (uint32_t k = 0; k < 3; ++k) {
      EXPECT_EQ(bank[k].kind, Target::Kind::kMemory);
      EXPECT_EQ(bank[k].row, k);
      EXPECT_EQ(bank[k].offset, 0u);
    }
    EXPECT_EQ(bank[0].bytes, 3u);
    EXPECT_EQ(bank[1].bytes, 0u);
    EXPECT_EQ(bank[2].bytes, 4u);
  }
  EXPECT_NE(binding.banks[0][0].memory, binding.banks[1][0].memory);
  EXPECT_EQ(sink.Bind(Made(Rows()), InstallMode::kInPlace)->banks.size(), 1u);
  EXPECT_TRUE(sink.Bind(Manifest(), InstallMode::kStaged).ok());
}

TEST(MemorySink, NamesTheRowThatDiffersAndBothSides) {
  const auto sink = MemorySink::Expecting(Rows()).value();
  const auto message = [&](std::vector<Row> rows) {
    const Status status = sink->Bind(Made(std::move(rows)), InstallMode::kStaged).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.message();
  };
  std::vector<Row> rows = Rows();
  std::swap(rows[0], rows[2]);
  rows[0].group = 5;
  EXPECT_TRUE(sink->Bind(Made(rows), InstallMode::kStaged).ok());  // order and groups may differ
  rows = Rows();
  rows[2].dtype = Dtype::kBF16;
  EXPECT_THAT(message(rows),
              AllOf(HasSubstr("\"s\""), HasSubstr("sends BF16 []"), HasSubstr("expects F32 []")));
  rows = Rows();
  rows[0].shape = {4};
  EXPECT_THAT(message(rows), AllOf(HasSubstr("sends U8 [4]"), HasSubstr("expects U8 [3]")));
  rows = Rows();
  rows.push_back(Row{.name = "more"});
  EXPECT_THAT(message(rows), AllOf(HasSubstr("\"more\""), HasSubstr("has no such tensor")));
  rows = Rows();
  rows.pop_back();
  EXPECT_THAT(message(rows), AllOf(HasSubstr("\"s\""), HasSubstr("does not send it")));
  rows = Rows();
  rows[0].name = "renamed";
  EXPECT_THAT(message(rows), AllOf(HasSubstr("\"renamed\""), HasSubstr("\"a\"")));
  EXPECT_THAT(message({}), HasSubstr("and 1 more"));
  EXPECT_FALSE(MemorySink::Expecting({Row{.name = "x"}, Row{.name = "x"}}).ok());
}

TEST(MemorySink, FlipsBanksWhenStaged) {
  MemorySink sink;
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  EXPECT_EQ(sink.ServingDigest().status().code(), StatusCode::kFailedPrecondition);
  const Digest first = Write(binding.banks[0], 1);
  ASSERT_TRUE(Install(sink, Staged(1, 0)).ok());
  EXPECT_EQ(sink.ServingDigest().value(), first);
  const Digest second = Write(binding.banks[1], 2);
  EXPECT_EQ(sink.ServingDigest().value(), first);  // staged bytes do not serve
  sink.Discard(Staged(2, 1));
  EXPECT_EQ(sink.ServingDigest().value(), first);
  ASSERT_TRUE(Install(sink, Staged(3, 1)).ok());
  EXPECT_EQ(sink.ServingDigest().value(), second);
  EXPECT_EQ(testing::AsText(*sink.ReadRow("a")), "\2\2\2");
  EXPECT_EQ(sink.ReadRow("empty")->size(), 0u);
  EXPECT_EQ(sink.ReadRow("b").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(sink.state().installs, 2u);
  EXPECT_EQ(sink.state().version, Staged(3, 0).version);
  EXPECT_TRUE(sink.state().in_service());
  EXPECT_TRUE(sink.misuse().ok());
}

// What was installed did not verify, so the same version is caught up: given up once, and then
// brought.
TEST(MemorySink, OneVersionMayComeAgainInTheOtherBank) {
  MemorySink sink;
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  const Digest bad = Write(binding.banks[0], 1);
  ASSERT_TRUE(Install(sink, Staged(1, 0)).ok());
  const Digest good = Write(binding.banks[1], 2);
  sink.Discard(Staged(1, 1));
  EXPECT_EQ(sink.ServingDigest().value(), bad);
  ASSERT_TRUE(Install(sink, Staged(1, 1)).ok());
  EXPECT_EQ(sink.ServingDigest().value(), good);
  EXPECT_TRUE(sink.misuse().ok()) << sink.misuse().ToString();
  sink.Discard(Staged(1, 1));  // but not what serves
  EXPECT_FALSE(sink.misuse().ok());
}

TEST(MemorySink, InstallIsIdempotentAndNeverGoesBack) {
  MemorySink sink;
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  Write(binding.banks[0], 1);
  ASSERT_TRUE(Install(sink, Staged(5, 0)).ok());
  ASSERT_TRUE(Install(sink, Staged(5, 0)).ok());
  EXPECT_EQ(sink.state().installs, 1u);
  EXPECT_EQ(Install(sink, Staged(4, 1)).code(), StatusCode::kStale);
  EXPECT_TRUE(sink.misuse().ok());
  EXPECT_EQ(sink.state().version, Staged(5, 0).version);
}

TEST(MemorySink, RefusesMisuse) {
  MemorySink sink;
  EXPECT_EQ(Install(sink, Staged(1, 0)).code(), StatusCode::kFailedPrecondition);  // not bound
  EXPECT_THAT(sink.misuse().message(), HasSubstr("not at all"));
  ASSERT_TRUE(sink.Bind(Made(Rows()), InstallMode::kStaged).ok());
  EXPECT_THAT(Install(sink, Staged(1, 2)).message(), HasSubstr("bank 2"));
  EXPECT_THAT(Install(sink, InPlace(1)).message(), HasSubstr("bound staged"));
  ASSERT_TRUE(Install(sink, Staged(1, 0)).ok());
  EXPECT_THAT(Install(sink, Staged(2, 0)).message(), HasSubstr("serving"));
  EXPECT_FALSE(Quiesce(sink, Staged(2, 1)).ok());
  EXPECT_FALSE(sink.Load(Staged(2, 1), TensorGroup{}).ok());
  ASSERT_TRUE(sink.Bind(Made(Rows()), InstallMode::kInPlace).ok());
  EXPECT_THAT(Install(sink, InPlace(2)).message(), HasSubstr("without quiesce"));
  EXPECT_EQ(sink.resume_count(), 0u);

  MemorySink other;
  other.Resume(InPlace(1), EpochOutcome::kAborted);
  EXPECT_THAT(other.misuse().message(), HasSubstr("without quiesce"));
  MemorySink third;
  third.Resume(InPlace(1), EpochOutcome::kCommitted);
  EXPECT_THAT(third.misuse().message(), HasSubstr("resume after the commit"));
  MemorySink staged_only(SinkCaps{.staged = true, .in_place = false});
  EXPECT_EQ(staged_only.Bind(Made(Rows()), InstallMode::kInPlace).status().code(),
            StatusCode::kUnimplemented);
}

TEST(MemorySink, InPlaceIsOutOfServiceUntilResume) {
  MemorySink sink;
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kInPlace).value();
  ASSERT_TRUE(Quiesce(sink, InPlace(1)).ok());
  EXPECT_TRUE(sink.state().quiesced);
  EXPECT_TRUE(sink.state().dirty);
  const Digest first = Write(binding.banks[0], 1);
  ASSERT_TRUE(Install(sink, InPlace(1)).ok());
  EXPECT_FALSE(sink.state().dirty);
  EXPECT_FALSE(sink.state().in_service());
  EXPECT_EQ(sink.ServingDigest().value(), first) << "verified before it serves";
  sink.Resume(InPlace(1), EpochOutcome::kCommitted);
  EXPECT_TRUE(sink.state().in_service());
  EXPECT_EQ(sink.ServingDigest().value(), first);

  // Aborted before the first byte: serves on.
  ASSERT_TRUE(Quiesce(sink, InPlace(2)).ok());
  sink.Discard(InPlace(2));
  sink.Resume(InPlace(2), EpochOutcome::kAborted);
  EXPECT_TRUE(sink.state().in_service());
  EXPECT_EQ(sink.ServingDigest().value(), first);

  // Aborted in mid-write: dirty until a good epoch.
  ASSERT_TRUE(Quiesce(sink, InPlace(3)).ok());
  std::memset(binding.banks[0][0].memory, 9, 2);
  sink.Discard(InPlace(3));
  EXPECT_TRUE(sink.state().dirty);
  EXPECT_THAT(sink.ReadRow("a").status().message(), HasSubstr("half-written"));
  const Digest healed = Write(binding.banks[0], 4);
  ASSERT_TRUE(Install(sink, InPlace(4)).ok());
  sink.Resume(InPlace(4), EpochOutcome::kCommitted);
  EXPECT_EQ(sink.ServingDigest().value(), healed);
  EXPECT_EQ(sink.state().installs, 2u);
  EXPECT_EQ(sink.quiesce_count(), 3u);
  EXPECT_EQ(sink.resume_count(), 3u);
  EXPECT_EQ(sink.discard_count(), 2u);
  EXPECT_TRUE(sink.misuse().ok()) << sink.misuse();
}

TEST(MemorySink, AStagedEpochHealsWhatWasDirty) {
  MemorySink sink;
  (void)sink.Bind(Made(Rows()), InstallMode::kInPlace).value();
  ASSERT_TRUE(Quiesce(sink, InPlace(1)).ok());
  sink.Discard(InPlace(1));
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  const Digest digest = Write(binding.banks[0], 1);
  ASSERT_TRUE(Install(sink, Staged(2, 0)).ok());
  sink.Resume(Staged(2, 0), EpochOutcome::kCommitted);
  EXPECT_TRUE(sink.state().in_service());
  EXPECT_EQ(sink.ServingDigest().value(), digest);
  EXPECT_TRUE(sink.misuse().ok()) << sink.misuse();
}

TEST(MemorySink, BankZeroNeverServesAfterBind) {
  MemorySink sink;
  const Binding staged = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  Write(staged.banks[0], 1);
  ASSERT_TRUE(Install(sink, Staged(1, 0)).ok());
  const Binding again = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  EXPECT_EQ(again.banks[0][0].memory, staged.banks[1][0].memory);
  EXPECT_EQ(again.banks[1][0].memory, staged.banks[0][0].memory);
  // In place it is the bank that serves which is written.
  const Binding live = sink.Bind(Made(Rows()), InstallMode::kInPlace).value();
  EXPECT_EQ(live.banks[0][0].memory, staged.banks[0][0].memory);
}

TEST(MemorySink, ANewManifestLeavesTheOldVersionServingUntilInstall) {
  MemorySink sink;
  const Binding old = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  const Digest before = Write(old.banks[0], 1);
  ASSERT_TRUE(Install(sink, Staged(1, 0)).ok());
  const uint64_t two_small = sink.held_bytes();
  const Manifest larger = Made({Row{.name = "big", .shape = {1 << 20}}});
  const Binding binding = sink.Bind(larger, InstallMode::kStaged).value();
  EXPECT_EQ(sink.held_bytes(), two_small / 2 + (2u << 20));  // the idle small bank is gone
  EXPECT_EQ(sink.ServingDigest().value(), before);
  const Digest after = Write(binding.banks[0], 2);
  ASSERT_TRUE(Install(sink, Staged(2, 0)).ok());
  EXPECT_EQ(sink.ServingDigest().value(), after);
  EXPECT_EQ(sink.held_bytes(), 2u << 20);
}

TEST(MemorySink, SaysHowMuchMemoryIsMissing) {
  MemorySink sink;
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  const Digest digest = Write(binding.banks[0], 1);
  const Status status =
      sink.Bind(Made({Row{.name = "x", .shape = {int64_t{1} << 50}}}), InstallMode::kStaged)
          .status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("2 copies"), HasSubstr("1125899906842624 bytes")));
  ASSERT_TRUE(Install(sink, Staged(1, 0)).ok());  // the earlier binding is as it was
  EXPECT_EQ(sink.ServingDigest().value(), digest);
}

TEST(SinkStateCell, ReadersNeverSeeAMixture) {
  SinkStateCell cell;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> reads{0};
  std::vector<std::thread> readers;
  for (int k = 0; k < 2; ++k) {
    readers.emplace_back([&] {
      uint64_t last = 0;
      while (!stop) {
        const SinkState state = cell.Load();
        EXPECT_EQ(state.version.term.counter, state.installs);
        EXPECT_EQ(state.version.term.nonce, state.installs);
        EXPECT_EQ(state.version.epoch.value, state.installs);
        EXPECT_EQ(state.dirty, state.installs % 2 == 1);
        EXPECT_GE(state.installs, last);
        last = state.installs;
        ++reads;
      }
    });
  }
  for (uint64_t k = 1; k <= 20'000 || reads < 1'000; ++k) {
    SinkState state;
    state.version = Version{Term{k, k}, EpochId(k)};
    state.installs = k;
    state.dirty = k % 2 == 1;
    cell.Store(state);
    if (k % 64 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

TEST(MemorySink, StateAndDigestMayBeReadWhileItFlips) {
  MemorySink sink;
  const Binding binding = sink.Bind(Made(Rows()), InstallMode::kStaged).value();
  const Digest digest = Write(binding.banks[0], 1);
  Write(binding.banks[1], 1);
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) {
      const SinkState state = sink.state();
      EXPECT_EQ(state.installs, state.version.epoch.value);
      const StatusOr<Digest> got = sink.ServingDigest();
      if (got.ok()) {
        EXPECT_EQ(*got, digest);
      }
    }
  });
  for (uint64_t k = 1; k <= 5'000; ++k) ASSERT_TRUE(Install(sink, Staged(k, (k + 1) % 2)).ok());
  stop = true;
  reader.join();
}

}  // namespace
}  // namespace packcast
