#include "runtime/data/shm_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/runtime/data/shm_left.h"

namespace packcast {
namespace {

using testing::CountShm;
using ::testing::HasSubstr;
using testing::ShmLeft;

StatusOr<std::shared_ptr<const ShmView>> Open(const ShmSegment& segment) {
  return ShmView::Open(static_cast<uint64_t>(getpid()), segment.fd(), segment.inode(),
                       segment.bytes());
}

TEST(ShmSegment, ReadersSeeWhatItsOwnerWritesAndKeepItWhenTheOwnerHasGone) {
  auto segment = ShmSegment::Make(10'000).value();
  EXPECT_EQ(segment->bytes() % 4096, 0u);
  const auto view = Open(*segment).value();
  std::memset(segment->data(), 0x5a, 10'000);
  EXPECT_EQ(view->data()[9'999], std::byte{0x5a});
  segment.reset();
  EXPECT_EQ(view->data()[9'999], std::byte{0x5a});
  EXPECT_EQ(CountShm(), (ShmLeft{0, 1}));
}

TEST(ShmSegment, NobodyElseCanWriteOrShrinkIt) {
  const auto segment = ShmSegment::Make(4096).value();
  const auto view = Open(*segment).value();
  EXPECT_NE(mprotect(const_cast<std::byte*>(view->data()), 4096, PROT_READ | PROT_WRITE), 0);
  const std::string path = "/proc/self/fd/" + std::to_string(segment->fd());
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_NE(ftruncate(fd, 0), 0);
  EXPECT_LT(write(fd, "x", 1), 0);
  close(fd);
}

TEST(ShmSegment, NothingIsLeftOfIt) {
  { const auto segment = ShmSegment::Make(4096).value(); }
  EXPECT_EQ(CountShm(), ShmLeft());
}

TEST(ShmSegment, WhatIsNotTheSegmentIsRefusedWithTheRemedy) {
  auto segment = ShmSegment::Make(4096).value();
  const auto self = static_cast<uint64_t>(getpid());
  const auto status = [](const auto& opened) { return opened.status(); };
  const Status other_inode =
      status(ShmView::Open(self, segment->fd(), segment->inode() + 1, segment->bytes()));
  EXPECT_EQ(other_inode.code(), StatusCode::kUnavailable);
  EXPECT_THAT(other_inode.message(), HasSubstr("PID namespace"));
  EXPECT_FALSE(ShmView::Open(self, segment->fd(), segment->inode(), 8192).ok());
  // A pipe: to open it would wait for a writer.
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  EXPECT_FALSE(ShmView::Open(self, static_cast<uint64_t>(pipe_ends[0]), 1, 4096).ok());
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  // No process has this number: it is above the kernel's largest.
  const Status no_process = status(ShmView::Open(uint64_t{1} << 30, 3, 1, 4096));
  EXPECT_EQ(no_process.code(), StatusCode::kUnavailable);
  EXPECT_THAT(no_process.message(), HasSubstr("the root has ended, or is on another host"));
}

TEST(ShmSegment, AShortageIsNamed) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const Status status = ShmSegment::Make(4096).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("open files"));
}

}  // namespace
}  // namespace packcast
