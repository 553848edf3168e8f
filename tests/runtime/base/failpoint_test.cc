#include "runtime/base/failpoint.h"

#include <csignal>

#include <gtest/gtest.h>

namespace packcast {
namespace {

class FailpointTest : public ::testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(SetFailpoints("").ok()); }
};

TEST_F(FailpointTest, OffUnlessNamed) {
  EXPECT_TRUE(Failpoint("sink.load").ok());
  ASSERT_TRUE(SetFailpoints("another=error").ok());
  EXPECT_TRUE(Failpoint("sink.load").ok());
}

TEST_F(FailpointTest, AnErrorOnTheNthHitOnlyNamesThePlace) {
  ASSERT_TRUE(SetFailpoints("sink.load=error@2").ok());
  EXPECT_TRUE(Failpoint("sink.load").ok());
  const Status status = Failpoint("sink.load");
  EXPECT_NE(status.message().find("sink.load"), std::string::npos) << status;
  EXPECT_TRUE(Failpoint("sink.load").ok());
}

TEST_F(FailpointTest, ExitAndKillEndTheProcess) {
  EXPECT_EXIT((void)(SetFailpoints("a=exit").ok() && Failpoint("a").ok()),
              ::testing::ExitedWithCode(42), "");
  EXPECT_EXIT((void)(SetFailpoints("a=kill").ok() && Failpoint("a").ok()),
              ::testing::KilledBySignal(SIGKILL), "");
}

TEST_F(FailpointTest, BadSettingsAreNamed) {
  for (const char* bad : {"a", "a=", "a=explode", "a=delay:soon", "a=error@0"}) {
    const Status status = SetFailpoints(bad);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_NE(status.message().find(bad), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace packcast
