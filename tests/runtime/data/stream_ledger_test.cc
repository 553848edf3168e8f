#include "runtime/data/stream_ledger.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace packcast {
namespace {

using ::testing::HasSubstr;

std::byte memory[256];

Operation Step(uint64_t sequence, uint64_t bytes = 256) {
  return {Sequence(sequence), {{memory, bytes}}, sequence, 1};
}

TEST(RootLedger, RefusesAnEmptyOperation) {
  RootLedger root(2, 0);
  ASSERT_TRUE(root.Begin().ok());
  ASSERT_TRUE(root.OnGranted(1, 1).ok());
  EXPECT_EQ(root.CheckLaunch(Step(0, 0)).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(root.CheckLaunch(Step(0)).ok());
}

TEST(RootLedger, BeginsOnlyAfterACompleteStreamOrOneThatNothingWasLaunchedIn) {
  RootLedger root(2, 0);
  ASSERT_TRUE(root.Begin().ok());
  ASSERT_TRUE(root.Begin().ok());
  ASSERT_TRUE(root.OnGranted(1, 1).ok());
  root.Launched();
  EXPECT_EQ(root.Begin().code(), StatusCode::kFailedPrecondition);
  root.Completed();
  EXPECT_EQ(root.Begin().code(), StatusCode::kFailedPrecondition) << "it has not ended";
  ASSERT_TRUE(root.End(1).ok());
  EXPECT_TRUE(root.Begin().ok());
}

TEST(MemberLedger, BeginsOnlyAfterAFinishedStreamOrOneThatHasNoGate) {
  MemberLedger member("rank 1");
  ASSERT_TRUE(member.Begin().ok());
  member.Granted();
  ASSERT_TRUE(member.Begin().ok()) << "a grant alone";
  member.Granted();
  ASSERT_TRUE(member.OnGate({Sequence(0), 256, 0, 1}).ok());
  EXPECT_EQ(member.Begin().code(), StatusCode::kFailedPrecondition);
  member.Launched();
  member.Completed();
  ASSERT_TRUE(member.OnEnd(1).ok());
  EXPECT_EQ(member.Begin().code(), StatusCode::kFailedPrecondition) << "not finished";
  ASSERT_TRUE(member.Finish().ok());
  EXPECT_TRUE(member.Begin().ok());
}

TEST(MemberLedger, RefusesAnEmptyGate) {
  MemberLedger member("rank 1");
  ASSERT_TRUE(member.Begin().ok());
  member.Granted();
  EXPECT_EQ(member.OnGate({Sequence(0), 0, 0, 0}).code(), StatusCode::kInternal);
}

TEST(MemberLedger, RefusesAStepWhoseRootDoesNotSealIt) {
  MemberLedger member("rank 1");
  ASSERT_TRUE(member.Begin().ok());
  member.Granted();
  ASSERT_TRUE(member.OnGate({Sequence(0), 256, 0, 1, /*sealed=*/false}).ok());
  bool fatal = false;
  const Status status = member.CheckLaunch(Step(0), &fatal);
  EXPECT_TRUE(fatal);
  EXPECT_THAT(status.message(), HasSubstr("the root sends it without a checksum"));
  Operation unsealed = Step(0);
  unsealed.sealed = false;
  EXPECT_TRUE(member.CheckLaunch(unsealed, &fatal).ok());
}

TEST(MemberLedger, KnowsWhichSealItWaitsFor) {
  MemberLedger member("rank 1");
  ASSERT_TRUE(member.Begin().ok());
  for (uint64_t step = 0; step < 2; ++step) {
    member.Granted();
    ASSERT_TRUE(member.OnGate({Sequence(step), 256, step, 1}).ok());
    member.Launched();
    EXPECT_EQ(member.FirstUnsealed().has_value(), step > 0);
    member.Completed();
  }
  ASSERT_TRUE(member.OnSeal(Sequence(0), Digest{1, 1}).ok());
  EXPECT_EQ(member.FirstUnsealed(), Sequence(1));
  ASSERT_TRUE(member.OnSeal(Sequence(1), Digest{1, 1}).ok());
  EXPECT_EQ(member.FirstUnsealed(), std::nullopt);
}

TEST(RootLedger, KnowsWhoStillReads) {
  RootLedger root(3, 0);
  ASSERT_TRUE(root.Begin().ok());
  for (uint32_t rank : {1, 2}) ASSERT_TRUE(root.OnGranted(rank, 2).ok());
  root.Launched();
  EXPECT_EQ(root.OnReleased(1, 2).code(), StatusCode::kInvalidArgument) << "it is not launched";
  EXPECT_EQ(root.Readers(), (std::vector<uint32_t>{1, 2}));
  ASSERT_TRUE(root.OnReleased(1, 1).ok());
  ASSERT_TRUE(root.OnReleased(1, 0).ok()) << "a repetition";
  EXPECT_EQ(root.Readers(), std::vector<uint32_t>{2});
  ASSERT_TRUE(root.OnReleased(2, 1).ok());
  EXPECT_TRUE(root.Readers().empty());
  root.Completed();
  EXPECT_EQ(root.Readers(), (std::vector<uint32_t>{1, 2})) << "the next";
}

TEST(MemberLedger, ReleasesWhatIsCompleteInOrder) {
  MemberLedger member("rank 1");
  ASSERT_TRUE(member.Begin().ok());
  member.Granted();
  ASSERT_TRUE(member.OnGate({Sequence(0), 256, 0, 1}).ok());
  EXPECT_EQ(member.CheckRelease(Sequence(0)).code(), StatusCode::kFailedPrecondition);
  member.Launched();
  member.Completed();
  EXPECT_EQ(member.CheckRelease(Sequence(1)).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(member.CheckRelease(Sequence(0)).ok());
  member.Released();
  EXPECT_EQ(member.CheckRelease(Sequence(0)).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(member.released(), 1u);
}

}  // namespace
}  // namespace packcast
