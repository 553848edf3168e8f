// One rank of a broadcast over shared memory, for tests that kill it while bytes move. Rank 0 is
// the root of two ranks; rows have 64 KiB, one a step.
// shm_child root: prints its rendezvous as hex, and sends four rows of eight: the rest never come.
// shm_child member HEX: prints "reading" in its first step, and stays in there.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "runtime/data/shm_transport.h"
#include "tests/runtime/data/shm_rows.h"

namespace packcast {
namespace {

using testing::In;

int Main(int argc, char** argv) {
  const bool is_root = std::string(argv[1]) == "root";
  const auto transport = MakeShmTransport().value();
  Rendezvous rendezvous;
  if (is_root) {
    rendezvous = transport->MakeRendezvous(GenerationId(1)).value();
    std::printf("%s\n", testing::ToHexText(rendezvous.blob).c_str());
    std::fflush(stdout);
  } else if (argc > 2) {
    rendezvous = {"shm", testing::FromHexText(argv[2])};
  }
  const auto collective = testing::JoinOne(transport.get(), rendezvous, is_root ? 0 : 1);
  BroadcastOptions options = testing::RowOptions();
  Status status;
  if (is_root) {
    options.allocator = transport->allocator();
    testing::RowsThatStop source(4);
    status = PackedProducer::Make(collective.get(), &source, options)
                 .value()
                 ->Run(In(Seconds(60)))
                 .status();
  } else {
    const auto rows = RowsOf(testing::EqualRows());
    const UnpackCallback stay = [](std::span<const UnpackedRegion>) {
      std::printf("reading\n");
      std::fflush(stdout);
      char byte = 0;
      while (read(STDIN_FILENO, &byte, 1) > 0) {
      }
      return OkStatus();
    };
    status = PackedConsumer::Make(collective.get(), rows.get(), options, stay)
                 .value()
                 ->Run(In(Seconds(60)))
                 .status();
  }
  std::printf("%s\n", status.ToString().c_str());
  return 0;
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) { return packcast::Main(argc, argv); }
