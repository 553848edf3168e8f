#include "tests/bench/fleet_worker.h"

#include <memory>
#include <sstream>
#include <string>

#include "actors/sources/memory_sink.h"
#include "actors/worker.h"
#include "runtime/actor/runtime.h"
#include "runtime/data/cuda/device.h"
#include "tests/bench/fleet_trainer.h"
#include "tests/bench/raw_broadcast.h"
#include "tests/bench/take.h"
#include "tests/bench/two_roots.h"

namespace packcast::bench {
namespace {

// A worker and what it needs, the sink below, so that it goes last.
struct Member {
  std::unique_ptr<MemorySink> sink;
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<Worker> worker;
  std::unique_ptr<FleetTrainer> trainer;  // or this
};

std::unique_ptr<Member> Train(const FleetFlags& flags, const std::string& coordinator,
                              const std::string& list) {
  auto member = std::make_unique<Member>();
  Runtime::Options self;
  self.name = "trainer-" + std::to_string(flags.trainer_rank());
  member->runtime = Take(Runtime::Start(self));
  member->trainer = std::make_unique<FleetTrainer>(flags, list, coordinator, member->runtime.get());
  return member;
}

std::unique_ptr<Member> Join(const FleetFlags& flags, const std::string& coordinator) {
  auto member = std::make_unique<Member>();
  member->sink = std::make_unique<MemorySink>();
  if (!flags.host) member->sink->UseMemory(DeviceAllocator(flags.gpu()));
  const std::string number = std::to_string(flags.rank);
  Runtime::Options self;
  self.name = "worker-" + number;
  member->runtime = Take(Runtime::Start(self));
  WorkerOptions options;
  options.name = self.name;
  options.replica = "replica-" + number;
  options.coordinator = coordinator;
  options.device = flags.device();
  options.peer_copies = flags.peer_copies;
  options.own_thread = true;
  member->worker = Take(Worker::Start(member->runtime.get(), options, member->sink.get()));
  return member;
}

}  // namespace

void ServeFleet(const FleetFlags& flags) {
  if (!flags.host) Check(CudaStatus(cudaSetDevice(flags.gpu()), "choosing the device"));
  Channel channel(flags.channel);
  std::unique_ptr<Member> member;
  while (true) {
    std::istringstream words(channel.Receive());
    std::string verb;
    std::string address;
    std::string list;
    Place place{flags.rank, flags.processes(), {&channel}};
    uint64_t number = 0;
    uint64_t pieces = 0;
    int repeats = 0;
    words >> verb;
    if (verb == "join" && words >> address) {
      member = Join(flags, address);
    } else if (verb == "train" && words >> address && std::getline(words >> std::ws, list)) {
      member = Train(flags, address, list);
    } else if (verb == "refill" && words >> number) {
      if (member->trainer->refill != nullptr) member->trainer->refill(number);
    } else if (verb == "sync" && words >> number) {
      Check(member->trainer->trainer->Sync(number, kFleetSyncLimit).status);
    } else if (verb == "leave") {
      member.reset();
      Meet(place);
    } else if (verb == "raw" && words >> place.size >> pieces >> repeats) {
      (void)RawBroadcastRate(place, flags.library, pieces, repeats);
    } else if (verb == "roots" && words >> pieces >> repeats) {
      PrintTwoRoots(place, flags.library, pieces, repeats);
    } else {
      Die("no such command: " + words.str());
    }
  }
}

}  // namespace packcast::bench
