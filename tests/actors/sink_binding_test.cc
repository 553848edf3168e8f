#include "actors/sink_binding.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace packcast {
namespace {

using Kind = Target::Kind;

Manifest MakeManifest(int64_t bytes = 8) {
  return Manifest::Make({{"a", Dtype::kU8, {bytes}, "", 0, {}}, {"b", Dtype::kU8, {0}, "", 0, {}}})
      .value();
}

// Gives the binding that the test asks for, and counts.
class FakeSink : public WeightSink {
 public:
  SinkCaps Caps() override { return {}; }
  StatusOr<Binding> Bind(const Manifest&, InstallMode) override {
    ++binds;
    return binding;
  }
  void Quiesce(const EpochInfo&, Done done) override { done(OkStatus()); }
  void Resume(const EpochInfo&, EpochOutcome) override {}
  Status Load(const EpochInfo&, const TensorGroup&) override { return OkStatus(); }
  void Install(const EpochInfo&, Done done) override { done(OkStatus()); }
  void Discard(const EpochInfo&) override {}

  StatusOr<Binding> binding = Binding{};
  int binds = 0;
};

class SinkBindingTest : public ::testing::Test {
 protected:
  Target Memory(uint64_t offset, uint64_t bytes, uint32_t row = 0) {
    return {Kind::kMemory, row, offset, bytes, memory_ + offset};
  }
  static Target Empty() { return {Kind::kMemory, 1, 0, 0, nullptr}; }
  // Binds one bank of these targets.
  Status BindBank(std::vector<Target> targets) {
    sink_.binding = Binding{{std::move(targets)}};
    binding_ = SinkBinding();
    return binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged);
  }
  void ExpectRefused(std::vector<Target> targets, const std::string& what) {
    const Status status = BindBank(std::move(targets));
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.ToString();
    EXPECT_NE(status.ToString().find(what), std::string::npos) << status.ToString();
  }

  std::byte memory_[64];
  FakeSink sink_;
  SinkBinding binding_;
};

TEST_F(SinkBindingTest, OneTargetPerRow) {
  ASSERT_TRUE(BindBank({Memory(0, 8), Empty()}).ok());
  const RowTarget& target = binding_.targets()->Find(0, "a");
  ASSERT_EQ(target.pieces.size(), 1u);
  EXPECT_EQ(target.pieces[0].data, memory_);
  EXPECT_TRUE(binding_.targets()->Find(1, "b").pieces.empty());
}

TEST_F(SinkBindingTest, PiecesOfARowComeInAnyOrder) {
  ASSERT_TRUE(BindBank({Memory(5, 3), Empty(), Memory(0, 5)}).ok());
  const auto& pieces = binding_.targets()->Find(0, "a").pieces;
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0].offset, 0u);
  EXPECT_EQ(pieces[1].offset, 5u);
}

TEST_F(SinkBindingTest, CallbackAndSkip) {
  ASSERT_TRUE(
      BindBank({{Kind::kCallback, 0, 0, 8, nullptr}, {Kind::kSkip, 1, 0, 0, nullptr}}).ok());
  EXPECT_EQ(binding_.targets()->Find(0, "a").kind, RowTarget::Kind::kCallback);
  EXPECT_EQ(binding_.targets()->Find(1, "b").kind, RowTarget::Kind::kSkip);
}

TEST_F(SinkBindingTest, RefusesWhatDoesNotCoverTheRowOnce) {
  ExpectRefused({Memory(0, 3), Memory(4, 4), Empty()}, "gap");
  ExpectRefused({Memory(0, 7), Empty()}, "7 of 8 bytes");
  ExpectRefused({Memory(1, 7), Empty()}, "gap");
  ExpectRefused({Memory(0, 5), Memory(4, 4), Empty()}, "overlaps");
  ExpectRefused({Memory(0, 8), Memory(0, 8), Empty()}, "overlaps");
  ExpectRefused({Memory(0, 9), Empty()}, "exceeds");
  ExpectRefused({Memory(0, 4), Memory(4, ~uint64_t{0} - 1), Empty()}, "exceeds");
  ExpectRefused({{Kind::kMemory, 0, 0, 8, nullptr}, Empty()}, "no memory");
}

TEST_F(SinkBindingTest, RefusesRowsThatAreUnboundOrUnknown) {
  ExpectRefused({Memory(0, 8)}, "\"b\" unbound");
  ExpectRefused({Memory(0, 8), Empty(), Memory(0, 8, 2)}, "row 2 of 2");
  ExpectRefused({Memory(0, 4), {Kind::kSkip, 0, 4, 4, nullptr}, Empty()}, "different ways");
}

TEST_F(SinkBindingTest, TakesTheSinksOwnRefusal) {
  sink_.binding = FailedPrecondition("no");
  EXPECT_EQ(binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged).code(),
            StatusCode::kFailedPrecondition);
}

TEST_F(SinkBindingTest, BanksTakeTurns) {
  sink_.binding = Binding{{{Memory(0, 8), Empty()}, {Memory(8, 8), Empty()}}};
  sink_.binding->banks[1][0].offset = 0;
  ASSERT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged).ok());
  const auto data = [&] { return binding_.targets()->Find(0, "a").pieces[0].data; };
  EXPECT_EQ(binding_.bank(), 0u);
  EXPECT_EQ(data(), memory_);
  binding_.Flip();
  EXPECT_EQ(binding_.bank(), 1u);
  EXPECT_EQ(data(), memory_ + 8);
  // The same manifest again: no new binding, and the turn is kept.
  ASSERT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged).ok());
  EXPECT_EQ(sink_.binds, 1);
  EXPECT_EQ(binding_.bank(), 1u);
  binding_.Flip();
  EXPECT_EQ(binding_.bank(), 0u);
}

TEST_F(SinkBindingTest, ASingleBankStays) {
  ASSERT_TRUE(BindBank({Memory(0, 8), Empty()}).ok());
  binding_.Flip();
  EXPECT_EQ(binding_.bank(), 0u);
}

TEST_F(SinkBindingTest, CountsBanksByInstallMode) {
  const std::vector<Target> bank = {Memory(0, 8), Empty()};
  sink_.binding = Binding{{bank, bank}};
  EXPECT_EQ(binding_.Bind(&sink_, MakeManifest(), InstallMode::kInPlace).code(),
            StatusCode::kInvalidArgument);
  sink_.binding = Binding{};
  EXPECT_EQ(binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged).code(),
            StatusCode::kInvalidArgument);
  sink_.binding = Binding{{bank}};
  EXPECT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kInPlace).ok());
}

TEST_F(SinkBindingTest, AsksAgainWhenManifestOrModeChange) {
  ASSERT_TRUE(BindBank({Memory(0, 8), Empty()}).ok());
  ASSERT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kInPlace).ok());
  EXPECT_EQ(sink_.binds, 2);
  sink_.binding = Binding{{{Memory(0, 16), Empty()}}};
  ASSERT_TRUE(binding_.Bind(&sink_, MakeManifest(16), InstallMode::kInPlace).ok());
  EXPECT_EQ(sink_.binds, 3);
}

TEST_F(SinkBindingTest, WhatWasInstalledIsKeptUntilItIsWrittenAgain) {
  const std::vector<Target> second = {{Kind::kMemory, 0, 0, 8, memory_ + 32}, Empty()};
  sink_.binding = Binding{{{Memory(0, 8), Empty()}, second}};
  ASSERT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged).ok());
  EXPECT_EQ(binding_.kept(), nullptr);
  binding_.Write();
  binding_.Flip();
  const TargetMap* const first = binding_.kept();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->Find(0, "a").pieces.front().data, memory_);
  binding_.Write();  // the other one, which is given up
  EXPECT_EQ(binding_.kept(), first);
  binding_.Write();
  binding_.Flip();
  EXPECT_EQ(binding_.kept()->Find(0, "a").pieces.front().data, memory_ + 32);
  binding_.Forget();
  EXPECT_EQ(binding_.kept(), nullptr);
}

TEST_F(SinkBindingTest, OneBankIsKeptUntilTheNextStream) {
  ASSERT_TRUE(BindBank({Memory(0, 8), Empty()}).ok());
  binding_.Flip();
  EXPECT_NE(binding_.kept(), nullptr);
  ASSERT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged).ok());
  EXPECT_NE(binding_.kept(), nullptr) << "nothing was bound anew";
  binding_.Write();
  EXPECT_EQ(binding_.kept(), nullptr);
  binding_.Flip();
  EXPECT_NE(binding_.kept(), nullptr);
  ASSERT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kInPlace).ok());
  EXPECT_EQ(binding_.kept(), nullptr);
}

TEST_F(SinkBindingTest, OnlyWholeRowsInMemoryCanBeRead) {
  const auto kept = [&](std::vector<Target> targets) {
    EXPECT_TRUE(BindBank(std::move(targets)).ok());
    binding_.Flip();
    return binding_.kept() != nullptr;
  };
  EXPECT_TRUE(kept({Memory(0, 8), Empty()}));
  EXPECT_TRUE(kept({Memory(0, 3), Memory(3, 5), Empty()})) << "end to end";
  EXPECT_FALSE(kept({Memory(0, 3), {Kind::kMemory, 0, 3, 5, memory_ + 40}, Empty()}));
  EXPECT_FALSE(kept({{Kind::kCallback, 0, 0, 8, nullptr}, Empty()}));
  EXPECT_FALSE(kept({{Kind::kSkip, 0, 0, 8, nullptr}, Empty()}));
}

// A sink that refused has lost its earlier binding, as far as we know.
TEST_F(SinkBindingTest, AsksAgainAfterARefusal) {
  ASSERT_TRUE(BindBank({Memory(0, 8), Empty()}).ok());
  const StatusOr<Binding> good = sink_.binding;
  sink_.binding = FailedPrecondition("no");
  EXPECT_FALSE(binding_.Bind(&sink_, MakeManifest(16), InstallMode::kStaged).ok());
  sink_.binding = good;
  EXPECT_TRUE(binding_.Bind(&sink_, MakeManifest(), InstallMode::kStaged).ok());
  EXPECT_EQ(sink_.binds, 3);
}

}  // namespace
}  // namespace packcast
