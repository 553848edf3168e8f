// Lists the failpoints, one a line: bazel run //tests/chaos:failpoints
#include <cstdio>

#include "tests/chaos/failpoint_names.h"

int main() {
  for (const packcast::chaos::FailpointName& name : packcast::chaos::FailpointNames()) {
    std::printf("%s%s%s%s\n", name.name.c_str(), name.can_fail ? " error" : "",
                name.is_rare ? " rare" : "", name.is_simulated ? " simulated" : "");
  }
  return 0;
}
