// The helper process that makes NCCL's unique IDs, with scripts in its place: no GPU is needed.

#include "runtime/data/cuda/nccl_id.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace packcast {
namespace {

std::string Script(const std::string& name, const std::string& body) {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
  std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
  EXPECT_EQ(chmod(path.c_str(), 0700), 0);
  return path;
}

// Whether this process has children, dead or alive.
bool HasChildren() { return waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

TEST(NcclId, LivesAsLongAsItsHelperAndEndsIt) {
  const std::string helper = Script("good", "head -c 128 /dev/zero | tr '\\0' x; cat > /dev/null");
  auto id = NcclId::Make(helper, "libnccl", Seconds(60));
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(std::string((*id)->id().internal, 128), std::string(128, 'x'));
  EXPECT_TRUE(HasChildren());
  id->reset();
  EXPECT_FALSE(HasChildren()) << "it was waited for";
}

TEST(NcclId, AHelperThatFailsIsAnError) {
  const auto id = NcclId::Make(Script("bad", "echo short; exit 3"), "", Seconds(60));
  EXPECT_EQ(id.status().code(), StatusCode::kUnavailable) << id.status();
  EXPECT_NE(id.status().message().find("ended without one"), std::string::npos) << id.status();
}

TEST(NcclId, AHelperThatHangsIsEnded) {
  const auto id = NcclId::Make(Script("slow", "cat > /dev/null"), "", Milliseconds(500));
  EXPECT_EQ(id.status().code(), StatusCode::kDeadlineExceeded) << id.status();
  EXPECT_FALSE(HasChildren());
}

TEST(NcclId, AHelperThatIsNotThereIsNamed) {
  const auto missing = NcclId::Make("/nowhere/packcast_nccl_id", "", Seconds(1));
  EXPECT_NE(missing.status().message().find("/nowhere/packcast_nccl_id"), std::string::npos)
      << missing.status();
  const auto unknown = NcclId::Make("", "", Seconds(1));
  EXPECT_NE(unknown.status().message().find("packcast_nccl_id"), std::string::npos)
      << unknown.status();
}

}  // namespace
}  // namespace packcast
