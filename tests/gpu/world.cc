#include "tests/gpu/world.h"

#include <cstdio>
#include <utility>

namespace packcast::testing {
namespace {

Status status = FailedPrecondition("the environment was not set up");
std::unique_ptr<World> the_world;

class WorldEnvironment : public ::testing::Environment {
 public:
  // What is missing fails each test, not this: tests without their environment would be skipped.
  void SetUp() override {
    StatusOr<std::unique_ptr<World>> world = MakeWorld();
    status = world.status();
    if (!world.ok()) return;
    the_world = std::move(world).value();
    std::printf("two ranks: %s\n", the_world->Describe().c_str());
    std::fflush(stdout);
  }
  void TearDown() override { the_world.reset(); }
};

[[maybe_unused]] ::testing::Environment* const environment =
    ::testing::AddGlobalTestEnvironment(new WorldEnvironment);

}  // namespace

World* TheWorld() { return the_world.get(); }

void NeedsWorld::SetUp() { ASSERT_TRUE(status.ok()) << "cannot run here: " << status; }

}  // namespace packcast::testing
