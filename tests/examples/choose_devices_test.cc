#include "examples/choose_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace packcast::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A machine that says this when it is asked.
DeviceProbe Machine(StatusOr<int> count, Status usable = OkStatus()) {
  return {[count] { return count; }, [usable](int) { return usable; }};
}

// A machine that must not be asked.
DeviceProbe Unasked() {
  return {[]() -> StatusOr<int> {
            ADD_FAILURE() << "GPUs are counted";
            return 8;
          },
          [](int) {
            ADD_FAILURE() << "NCCL is looked for";
            return OkStatus();
          }};
}

DeviceChoice Auto(uint32_t ranks, const DeviceProbe& probe) {
  return ChooseDevices("auto", ranks, false, probe).value();
}

TEST(ChooseDevices, TakesTheFirstGpusWhenEachRankCanHaveOne) {
  for (const int count : {3, 8}) {
    const DeviceChoice choice = Auto(3, Machine(count));
    EXPECT_THAT(choice.devices, ElementsAre(0, 1, 2));
    EXPECT_TRUE(choice.by_default);
    EXPECT_EQ(choice.why, std::to_string(count) + " GPUs for 3 ranks: weights stay on the devices");
  }
}

TEST(ChooseDevices, AsksWhetherTheGpusOfAllRanksAreOfUse) {
  DeviceProbe probe = Machine(8);
  int asked = 0;
  probe.usable = [&](int ranks) {
    asked = ranks;
    return Unavailable("no libnccl");
  };
  const DeviceChoice choice = Auto(3, probe);
  EXPECT_EQ(asked, 3);
  EXPECT_THAT(choice.devices, IsEmpty());
  EXPECT_EQ(choice.why, "8 GPUs for 3 ranks, but weights in host memory: no libnccl");
}

TEST(ChooseDevices, HostMemoryWhereGpusAreTooFew) {
  DeviceProbe probe = Unasked();
  probe.count = [] { return 1; };
  EXPECT_THAT(Auto(3, probe).devices, IsEmpty());
  EXPECT_EQ(Auto(3, probe).why, "1 GPU for 3 ranks is too few: weights in host memory");
  probe.count = [] { return 2; };
  EXPECT_THAT(Auto(3, probe).devices, IsEmpty());
  EXPECT_EQ(Auto(3, probe).why,
            "2 GPUs for 3 ranks are too few: weights in host memory (--workers 1 at most)");
}

TEST(ChooseDevices, HostMemoryWithoutGpus) {
  const DeviceChoice none = Auto(2, Machine(Unavailable("CUDA: no CUDA-capable device")));
  EXPECT_THAT(none.devices, IsEmpty());
  EXPECT_FALSE(none.by_default);
  EXPECT_EQ(none.why, "no GPU: weights in host memory (CUDA: no CUDA-capable device)");
  EXPECT_EQ(Auto(2, Machine(0)).why, "no GPU: weights in host memory");
  EXPECT_EQ(Auto(2, Machine(Unimplemented("built without CUDA"))).why,
            "weights in host memory (built without CUDA)");
}

TEST(ChooseDevices, WhoNamesThemIsObeyedUnasked) {
  const DeviceChoice named = ChooseDevices("3,1", 2, true, Unasked()).value();
  EXPECT_THAT(named.devices, ElementsAre(3, 1));
  EXPECT_FALSE(named.by_default);
  EXPECT_EQ(named.why, "--devices 3,1: weights stay on the devices");
  const DeviceChoice none = ChooseDevices("none", 2, false, Unasked()).value();
  EXPECT_THAT(none.devices, IsEmpty());
  EXPECT_EQ(none.why, "--devices none: weights in host memory");
}

TEST(ChooseDevices, SharedMemoryIsTheHosts) {
  const DeviceChoice choice = ChooseDevices("auto", 2, true, Unasked()).value();
  EXPECT_THAT(choice.devices, IsEmpty());
  EXPECT_EQ(choice.why, "--shm: weights in host memory");
}

TEST(ChooseDevices, NamesWhatIsWrong) {
  const auto error = [](const std::string& wanted) {
    const Status status = ChooseDevices(wanted, 2, false, Unasked()).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << wanted;
    return status.message();
  };
  EXPECT_EQ(error("0"), "--devices names 1 GPU; the trainer and 1 worker need one each");
  EXPECT_EQ(error("0,1,2"), "--devices names 3 GPUs; the trainer and 1 worker need one each");
  EXPECT_THAT(error("some"), HasSubstr("\"some\" is no GPU"));
  for (const char* wanted : {"", ",", "0,", ",1", "0,-1", "0,1x", "0,none", "0,99999999999"}) {
    EXPECT_THAT(error(wanted), HasSubstr("use auto, none, or numbers")) << wanted;
  }
}

TEST(TransportText, SaysWhy) {
  EXPECT_EQ(TransportText("peer@0123abcd", 1),
            "transport: peer copies (on one host, whose GPUs reach each other)");
  EXPECT_THAT(TransportText("peer@0123abcd", 3), HasSubstr("each worker's from the one before"));
  EXPECT_EQ(TransportText("nccl", 8), "transport: nccl (8 workers: peer copies serve 7)");
  EXPECT_THAT(TransportText("nccl", 7), HasSubstr("peer copies do not work"));
  EXPECT_THAT(TransportText("shm@0123abcd", 2), HasSubstr("shared memory"));
  EXPECT_EQ(TransportText("zmq", 2), "transport: zmq over TCP (host memory; --shm shares memory)");
  EXPECT_EQ(TransportText("pigeon", 2), "transport: pigeon");
}

}  // namespace
}  // namespace packcast::examples
