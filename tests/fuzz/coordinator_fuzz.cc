// A coordinator's machine under any events: see CoordinatorWorld.
#include <cstdint>

#include "tests/fuzz/coordinator_world.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  packcast::fuzz::Input in(data, size);
  packcast::fuzz::CoordinatorWorld world(&in);
  world.Run();
  world.CheckEnds();
  return 0;
}
