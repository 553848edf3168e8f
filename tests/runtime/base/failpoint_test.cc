#include "runtime/base/failpoint.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include <gtest/gtest.h>

#include "runtime/base/failpoint_actions.h"

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

TEST_F(FailpointTest, ANameCanBeMadeOfParts) {
  ASSERT_TRUE(SetFailpoints("worker.staged.idle=error").ok());
  const std::string state = "staged";
  EXPECT_TRUE(Failpoint({"worker", state, "broken"}).ok());
  EXPECT_FALSE(Failpoint({"worker", state, "idle"}).ok());
}

TEST_F(FailpointTest, NothingActsWithoutAHook) {
  ASSERT_TRUE(SetFailpoints("a=error").ok());
  const FailpointHook hook = internal::failpoint_hook.load();
  SetFailpointHook(nullptr);
  EXPECT_TRUE(Failpoint("a").ok());
  SetFailpointHook(hook);
  EXPECT_FALSE(Failpoint("a").ok());
}

// The child is this program anew, as the descriptor is looked for before main.
TEST_F(FailpointTest, AWatcherSetsAndIsTold) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    setenv("PACKCAST_FAILPOINTS_FD", std::to_string(ends[1]).c_str(), 1);
    execl("/proc/self/exe", "failpoint_test", "--gtest_filter=*WatchedChild",
          "--gtest_also_run_disabled_tests", nullptr);
    _exit(127);
  }
  close(ends[1]);
  std::string told;
  const auto read_to = [&](const std::string& last) {
    char byte = 0;
    while (!told.ends_with(last) && read(ends[0], &byte, 1) == 1) told += byte;
  };
  read_to("reached first\n");
  const std::string settings = "a=nonsense\nfirst=error;second=kill@2\n";
  EXPECT_EQ(write(ends[0], settings.data(), settings.size()),
            static_cast<ssize_t>(settings.size()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  read_to("the end of the socket");
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << told;
  EXPECT_EQ(told,
            "reached first\n"
            "bad invalid argument: bad failpoint \"a=nonsense\"\n"
            "set\n"
            "acts first\nreached second\nacts second\n");
  close(ends[0]);
}

TEST(DISABLED_WatchedChild, WatchedChild) {
  while (Failpoint("first").ok()) usleep(1000);
  (void)Failpoint("second");
  (void)Failpoint("second");
  FAIL() << "the second hit of \"second\" has not killed it";
}

TEST_F(FailpointTest, BadSettingsAreNamed) {
  for (const char* bad : {"a", "a=", "a=explode", "a=delay:soon", "a=error@0", "b=kill;b=error"}) {
    const Status status = SetFailpoints(bad);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_NE(status.message().find(bad), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace packcast
