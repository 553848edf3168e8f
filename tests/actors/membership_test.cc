// Which units are complete, and their ranks.
#include "actors/membership.h"

#include "gtest/gtest.h"

namespace packcast {
namespace {

class MembershipTest : public testing::Test {
 protected:
  void Add(const std::string& name, Role role, const std::string& unit, uint32_t rank,
           uint32_t size) {
    JoinCluster join;
    join.role = role;
    join.unit = unit;
    join.rank_in_unit = rank;
    join.unit_size = size;
    members_.Add({name, Incarnation(1)}, join);
  }
  std::vector<std::string> Ranks(Role role) const {
    std::vector<std::string> names;
    for (const Member* member : members_.CompleteRanks(role)) names.push_back(member->id.name);
    return names;
  }
  Membership members_;
};

using Names = std::vector<std::string>;

TEST_F(MembershipTest, RanksComeUnitByUnitAndInTheirOrder) {
  Add("a", Role::kWorker, "replica-1", 1, 2);
  Add("b", Role::kWorker, "replica-0", 0, 1);
  Add("c", Role::kWorker, "replica-1", 0, 2);
  Add("d", Role::kTrainer, "replica-0", 0, 1);
  EXPECT_EQ(Ranks(Role::kWorker), (Names{"b", "c", "a"}));
  EXPECT_EQ(Ranks(Role::kTrainer), Names{"d"});
  EXPECT_EQ(members_.CompleteUnits(Role::kWorker), (Names{"replica-0", "replica-1"}));
}

TEST_F(MembershipTest, IncompleteAndDrainedUnitsAreLeftOut) {
  Add("a", Role::kWorker, "replica-0", 0, 2);
  Add("b", Role::kWorker, "replica-1", 0, 1);
  Add("c", Role::kWorker, "replica-2", 0, 1);
  ASSERT_TRUE(members_.Drain("replica-1").ok());
  EXPECT_EQ(Ranks(Role::kWorker), Names{"c"});
  Add("d", Role::kWorker, "replica-0", 1, 2);
  ASSERT_TRUE(members_.Readmit("replica-1").ok());
  EXPECT_EQ(Ranks(Role::kWorker), (Names{"a", "d", "b", "c"}));
}

TEST_F(MembershipTest, ReplicasThatWereDrainedAndHaveGoneDoNotAddUp) {
  Add("stays", Role::kWorker, "stays", 0, 1);
  ASSERT_TRUE(members_.Drain("stays").ok());
  for (size_t k = 0; k < 3 * Membership::kDrainedGone; ++k) {
    const std::string name = "goes-" + std::to_string(k);
    Add(name, Role::kWorker, name, 0, 1);
    ASSERT_TRUE(members_.Drain(name).ok());
    members_.Remove(name);
    ASSERT_LE(members_.drained().size(), Membership::kDrainedGone + 1);
  }
  EXPECT_TRUE(members_.drained().contains("stays"));
  Add("goes-3071", Role::kWorker, "goes-3071", 0, 1);
  EXPECT_EQ(Ranks(Role::kWorker), Names()) << "one that went just now comes back drained";
}

}  // namespace
}  // namespace packcast
