// packcast_nccl_id [LIBNCCL]: writes the 128 bytes of a new NCCL unique ID to its standard output
// and lives, with the thread behind the ID, until its standard input ends. Started by NcclId.

#include <unistd.h>

#include <cstdio>

#include "runtime/data/cuda/nccl_library.h"

int main(int argc, char** argv) {
  const auto library = packcast::LoadNccl(argc > 1 ? argv[1] : "");
  if (!library.ok()) {
    std::fprintf(stderr, "packcast_nccl_id: %s\n", library.status().ToString().c_str());
    return 1;
  }
  ncclUniqueId id;
  const packcast::Status made = packcast::NcclStatus(**library, (*library)->get_unique_id(&id),
                                                     nullptr, "making a unique ID");
  if (!made.ok()) {
    std::fprintf(stderr, "packcast_nccl_id: %s\n", made.ToString().c_str());
    return 1;
  }
  size_t written = 0;
  while (written < sizeof id) {
    const ssize_t part = write(STDOUT_FILENO, id.internal + written, sizeof id - written);
    if (part <= 0) return 1;
    written += static_cast<size_t>(part);
  }
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
