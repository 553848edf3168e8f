// A broadcast over shared memory between two processes, of which one dies or freezes.
#include <future>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "runtime/data/shm_transport.h"
#include "tests/runtime/child_process.h"
#include "tests/runtime/data/shm_left.h"
#include "tests/runtime/data/shm_rows.h"

namespace packcast {
namespace {

using testing::ChildProcess;
using testing::CountShm;
using ::testing::HasSubstr;
using testing::In;
using testing::ShmLeft;

// This process is the root, the child a member that is in its first step.
class ShmMemberProcess : public ::testing::Test {
 protected:
  ShmMemberProcess() {
    const Rendezvous rendezvous = transport_->MakeRendezvous(GenerationId(1)).value();
    child_ = std::make_unique<ChildProcess>(
        std::vector<std::string>{"member", testing::ToHexText(rendezvous.blob)});
    collective_ = testing::JoinOne(transport_.get(), rendezvous, 0);
    BroadcastOptions options = testing::RowOptions();
    options.allocator = transport_->allocator();
    producer_ = PackedProducer::Make(collective_.get(), &source_, options).value();
  }
  ~ShmMemberProcess() override {
    producer_.reset();
    collective_.reset();
    EXPECT_EQ(CountShm(), ShmLeft());
  }
  std::future<Status> Produce(Duration deadline) {
    return std::async(std::launch::async,
                      [this, deadline] { return producer_->Run(In(deadline)).status(); });
  }

  const std::unique_ptr<Transport> transport_ = MakeShmTransport().value();
  testing::RowsThatStop source_{testing::kRowCount};
  std::unique_ptr<ChildProcess> child_;
  std::unique_ptr<Collective> collective_;
  std::unique_ptr<PackedProducer> producer_;
};

TEST_F(ShmMemberProcess, KilledWhileItReadsIsNamedByTheRoot) {
  auto produced = Produce(Seconds(60));
  ASSERT_EQ(child_->ReadLine(), "reading");
  child_->Signal(SIGKILL);
  child_->Wait();
  const Status status = produced.get();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_THAT(status.message(), HasSubstr("rank 1 (node-1)"));
  EXPECT_EQ(collective_->culprit(), 1u);
}

TEST_F(ShmMemberProcess, FrozenWhileItReadsIsWaitedForUntilTheDeadline) {
  auto produced = Produce(Seconds(2));
  ASSERT_EQ(child_->ReadLine(), "reading");
  child_->Freeze();
  const Status status = produced.get();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(status.message(), HasSubstr("waiting for step 0 to be read by rank 1 (node-1)"));
  EXPECT_EQ(collective_->progress().completed, 0u) << "the buffer it reads stayed as it was";
}

TEST(ShmRootProcess, KilledInMidStreamIsNamedByTheMemberWhichStillReadsWhatItHas) {
  ChildProcess child({"root"});
  const Rendezvous rendezvous{"shm", testing::FromHexText(child.ReadLine())};
  {
    const auto transport = MakeShmTransport().value();
    const auto collective = testing::JoinOne(transport.get(), rendezvous, 1);
    const auto rows = RowsOf(testing::EqualRows());
    bool killed = false;
    uint64_t right = 0;
    const UnpackCallback callback = [&](std::span<const UnpackedRegion> regions) {
      if (!killed) {
        child.Signal(SIGKILL);
        child.Wait();
        killed = true;
      }
      for (const UnpackedRegion& region : regions) {
        for (uint64_t k = 0; k < region.bytes; ++k) right += region.data[k] == std::byte{0x5a};
      }
      return OkStatus();
    };
    const auto consumer =
        PackedConsumer::Make(collective.get(), rows.get(), testing::RowOptions(), callback).value();
    const Status status = consumer->Run(In(Seconds(60))).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
    EXPECT_THAT(status.message(), HasSubstr("rank 0 (node-0)"));
    EXPECT_TRUE(killed);
    EXPECT_GE(right, testing::kRowBytes);
    EXPECT_EQ(right % testing::kRowBytes, 0u);
  }
  EXPECT_EQ(CountShm(), ShmLeft());
}

TEST(ShmRootProcess, KilledBeforeAMemberJoinsIsNamedWithTheRemedy) {
  ChildProcess child({"root"});
  const Rendezvous rendezvous{"shm", testing::FromHexText(child.ReadLine())};
  child.Signal(SIGKILL);
  child.Wait();
  const auto transport = MakeShmTransport().value();
  const Status status =
      transport
          ->Join({.rendezvous = rendezvous, .rank = 1, .size = 2, .generation = GenerationId(1)})
          .status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("the root has ended"));
}

}  // namespace
}  // namespace packcast
