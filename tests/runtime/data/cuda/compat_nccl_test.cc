// What can be said of broadcasts with other stacks where there is no GPU, or no CUDA at all.

#include "runtime/data/cuda/compat_nccl.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace packcast {
namespace {

bool HasCuda() { return MakeCompatId({}).status().code() != StatusCode::kUnimplemented; }

// Stands for packcast_nccl_id.
std::string Helper() {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/helper";
  std::ofstream(path) << "#!/bin/sh\nhead -c 128 /dev/zero | tr '\\0' x; cat > /dev/null\n";
  EXPECT_EQ(chmod(path.c_str(), 0700), 0);
  return path;
}

TEST(CompatNccl, AnIdIsWhatTheHelperMade) {
  NcclTransportOptions options;
  options.id_helper = Helper();
  const auto id = MakeCompatId(options);
  if (!HasCuda()) {
    EXPECT_EQ(id.status().code(), StatusCode::kUnimplemented) << id.status();
    return;
  }
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(id->bytes.front(), std::byte{'x'});
  EXPECT_EQ(id->bytes.back(), std::byte{'x'});
  EXPECT_NE(id->maker, nullptr);
}

TEST(CompatNccl, WrongArgumentsAreRefusedBeforeAnythingElse) {
  const std::vector<std::byte> id(128);
  const auto code = [](std::span<const std::byte> bytes, const CompatJoin& join) {
    return JoinCompat({}, bytes, join).status().code();
  };
  const StatusCode expected = HasCuda() ? StatusCode::kInvalidArgument : StatusCode::kUnimplemented;
  EXPECT_EQ(code(std::span(id).first(127), {.rank = 0, .size = 2}), expected);
  EXPECT_EQ(code(id, {.rank = 2, .size = 2}), expected);
  EXPECT_EQ(code(id, {.rank = 0, .size = 2, .root = 2}), expected);
  EXPECT_EQ(code(id, {.rank = 0, .size = 2, .names = {"only one"}}), expected);
}

}  // namespace
}  // namespace packcast
