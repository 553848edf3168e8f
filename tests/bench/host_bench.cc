// How fast one trainer's weights reach workers on the same host: "zmq" and "shm", one root and some
// members as processes of their own, with and without checksums, against the rate of memcpy on one
// thread of the same machine in the same run. One table; what arrived is compared in the end.
//
//   host [--mib N] [--members 1,2,4] [--repeats N] [--buffer-kib N] [--buffers N]

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "runtime/data/packed_consumer.h"
#include "runtime/data/packed_producer.h"
#include "runtime/data/shm_transport.h"
#include "runtime/data/zmq_collective.h"
#include "tests/bench/duo.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Flags {
  int rank = -1;
  int channel = -1;
  uint64_t mib = 512;
  std::vector<uint32_t> members = {1, 2, 4};
  int repeats = 5;
  uint64_t buffer_kib = 8192;
  uint32_t buffers = 3;
};

// A row of the table.
struct Setting {
  std::string kind;
  uint32_t members = 0;
  bool hash = true;
};

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Memory whose pages are there.
std::byte* Pages(uint64_t bytes) {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (data == MAP_FAILED) Die("no memory");
  return static_cast<std::byte*>(data);
}

// Half large rows, half ones of usual sizes.
std::vector<Row> MakeRows(uint64_t bytes) {
  std::vector<Row> rows;
  const auto add = [&](uint64_t row_bytes) {
    rows.push_back({.name = "layer." + std::to_string(rows.size()),
                    .dtype = Dtype::kBF16,
                    .shape = {static_cast<int64_t>(row_bytes / 2)}});
  };
  for (uint64_t at = 0; at < bytes / 2; at += 32 << 20) add(32 << 20);
  for (uint64_t at = 0; at < bytes / 2; at += 2 << 20) {
    add((2 << 20) - (16 << 10));
    add(16 << 10);
  }
  return rows;
}

class Rank {
 public:
  explicit Rank(const Flags& flags)
      : flags_(flags), manifest_(Take(Manifest::Make(MakeRows(flags.mib << 20)))) {
    plan_options_.buffer_bytes = flags.buffer_kib << 10;
    plan_ = Take(MakePlan(manifest_, plan_options_));
    const uint32_t most = *std::max_element(flags.members.begin(), flags.members.end());
    for (uint32_t k = 0; k < (is_root() ? most : 1); ++k) {
      channels_.emplace_back(flags.channel + static_cast<int>(k));
    }
    memory_ = Pages(manifest_.total_bytes());
    std::byte* at = memory_;
    for (uint32_t row = 0; row < manifest_.size(); ++row) {
      targets_.SetRow(row, MemoryTarget(at, manifest_.row_bytes(row)));
      at += manifest_.row_bytes(row);
    }
    transports_.push_back(Take(MakeZmqTransport()));
    transports_.push_back(Take(MakeShmTransport()));
  }

  void RunAll();

 private:
  bool is_root() const { return flags_.rank == 0; }
  Transport* TransportOf(const std::string& kind) const;
  void Refill(uint64_t seed);
  double MemcpyRate();
  void Run(const Setting& setting);
  std::unique_ptr<Collective> Join(Transport* transport, const Setting& setting);
  double Broadcast(Collective* collective, BufferRing* ring, const Setting& setting);
  void Verify(const Setting& setting);
  void Barrier(const Setting& setting);

  const Flags flags_;
  const Manifest manifest_;
  PlanOptions plan_options_;
  Plan plan_;
  std::vector<Channel> channels_;  // the root's: to each member; a member's: to the root
  std::byte* memory_ = nullptr;
  TargetMap targets_;
  std::vector<std::unique_ptr<Transport>> transports_;
  uint64_t generation_ = 0;  // counted by all, also by those that a setting leaves out
  uint64_t epoch_ = 0;       // of the generation
  double memcpy_rate_ = 0;
};

Transport* Rank::TransportOf(const std::string& kind) const {
  for (const auto& transport : transports_) {
    if (transport->kind() == kind) return transport.get();
  }
  Die("no transport " + kind);
}

void Rank::Barrier(const Setting& setting) {
  if (!is_root()) return channels_[0].Barrier();
  for (uint32_t k = 0; k < setting.members; ++k) channels_[k].Barrier();
}

void Rank::Refill(uint64_t seed) {
  auto* words = reinterpret_cast<uint64_t*>(memory_);
  for (uint64_t k = 0; k < manifest_.total_bytes() / 8; ++k) {
    words[k] = (seed + k) * 0x9e3779b97f4a7c15ull;
  }
}

// Of one thread, between two places that no cache holds.
double Rank::MemcpyRate() {
  const uint64_t bytes = manifest_.total_bytes();
  std::byte* const to = Pages(bytes);
  std::vector<double> seconds;
  for (int k = 0; k < flags_.repeats + 1; ++k) {
    const auto begin = Clock::now();
    std::memcpy(to, memory_, bytes);
    seconds.push_back(SecondsSince(begin));
  }
  munmap(to, bytes);
  seconds.erase(seconds.begin());
  return static_cast<double>(bytes) / Median(seconds);
}

std::unique_ptr<Collective> Rank::Join(Transport* transport, const Setting& setting) {
  JoinOptions options;
  options.rank = static_cast<uint32_t>(flags_.rank);
  options.size = setting.members + 1;
  options.generation = GenerationId(generation_);
  options.deadline = Clock::now() + std::chrono::seconds(60);
  if (is_root()) {
    options.rendezvous = Take(transport->MakeRendezvous(options.generation));
    const Bytes& blob = options.rendezvous.blob;
    for (uint32_t k = 0; k < setting.members; ++k) {
      channels_[k].Send(std::string(reinterpret_cast<const char*>(blob.data()), blob.size()));
    }
  } else {
    const std::string blob = channels_[0].Receive();
    const auto* data = reinterpret_cast<const std::byte*>(blob.data());
    options.rendezvous = {setting.kind, Bytes(data, data + blob.size())};
  }
  auto collective = Take(transport->Join(options));
  while (!Take(collective->Joined())) Check(collective->Poll(Milliseconds(10)));
  return collective;
}

// Seconds until all members have said that everything is there and right.
double Rank::Broadcast(Collective* collective, BufferRing* ring, const Setting& setting) {
  BroadcastOptions options;
  options.plan = plan_options_;
  options.hash = setting.hash;
  options.manifest = &manifest_;
  options.expected = &plan_;
  options.ring = ring;
  StreamId stream;
  stream.version.epoch = EpochId(++epoch_);
  stream.generation = GenerationId(generation_);
  stream.plan_digest = plan_.digest;
  std::vector<NamedTensor> tensors;
  const std::byte* at = memory_;
  for (uint32_t row = 0; is_root() && row < manifest_.size(); ++row) {
    const Row& meta = manifest_.rows()[row];
    tensors.push_back({.name = meta.name, .dtype = meta.dtype, .shape = meta.shape, .data = at});
    at += manifest_.row_bytes(row);
  }
  const auto source = SourceOf(std::move(tensors));
  const auto rows = RowsOf(manifest_.rows());
  Barrier(setting);
  const auto begin = Clock::now();
  Check(collective->Begin(stream));
  const Time deadline = Clock::now() + std::chrono::seconds(60);
  if (is_root()) {
    Take(Take(PackedProducer::Make(collective, source.get(), options))->Run(deadline));
  } else {
    Take(Take(PackedConsumer::Make(collective, rows.get(), options, nullptr, &targets_))
             ->Run(deadline));
  }
  return SecondsSince(begin);
}

// With another hash than the one that travels.
void Rank::Verify(const Setting& setting) {
  const std::string digest =
      ToHex(HashBytes({reinterpret_cast<const char*>(memory_), manifest_.total_bytes()}));
  if (!is_root()) return channels_[0].Send(digest);
  for (uint32_t k = 0; k < setting.members; ++k) {
    if (channels_[k].Receive() != digest) Die("the bytes differ");
  }
}

void Rank::Run(const Setting& setting) {
  // Other bytes each time, so that what is compared was really sent.
  if (is_root()) Refill(generation_);
  Transport* const transport = TransportOf(setting.kind);
  std::unique_ptr<Collective> collective = Join(transport, setting);
  std::unique_ptr<BufferRing> ring;
  if (!collective->reads_in_place() || is_root()) {
    ring = Take(BufferRing::Make(plan_options_.buffer_bytes, flags_.buffers,
                                 is_root() ? transport->allocator() : HostAllocator()));
  }
  std::vector<double> seconds;
  for (int k = 0; k < flags_.repeats + 1; ++k) {
    seconds.push_back(Broadcast(collective.get(), ring.get(), setting));
  }
  seconds.erase(seconds.begin());
  Verify(setting);
  Barrier(setting);
  collective.reset();
  if (!is_root()) return;
  const double delivered = static_cast<double>(manifest_.total_bytes()) * setting.members;
  const double rate = delivered / Median(seconds);
  std::printf("%-5s %7u  %-4s %8.1f ms %8.1f ms %8.2f %10.2f\n", setting.kind.c_str(),
              setting.members, setting.hash ? "yes" : "no", 1e3 * Median(seconds),
              1e3 * *std::min_element(seconds.begin(), seconds.end()), rate / 1e9,
              rate / memcpy_rate_);
  std::fflush(stdout);
}

void Rank::RunAll() {
  if (is_root()) {
    Refill(0);
    memcpy_rate_ = MemcpyRate();
    std::printf("%u cores; %u rows, %.0f MB; %u buffers of %llu KiB\n",
                std::thread::hardware_concurrency(), static_cast<unsigned>(manifest_.size()),
                static_cast<double>(manifest_.total_bytes()) / 1e6, flags_.buffers,
                static_cast<unsigned long long>(flags_.buffer_kib));
    std::printf("memcpy, one thread: %.2f GB/s\n\n", memcpy_rate_ / 1e9);
    std::printf("%-5s %7s  %-4s %11s %11s %8s %10s\n", "", "members", "hash", "median", "best",
                "GB/s", "of memcpy");
  }
  for (const std::string kind : {"zmq", "shm"}) {
    for (const uint32_t members : flags_.members) {
      for (const bool hash : {true, false}) {
        ++generation_;
        epoch_ = 0;
        if (static_cast<uint32_t>(flags_.rank) <= members) Run({kind, members, hash});
      }
    }
  }
  if (!is_root()) return;
  const double after = MemcpyRate();
  std::printf("\nmemcpy, one thread, after that: %.2f GB/s\n", after / 1e9);
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Times the broadcast of a model to processes of the same host.");
  app.add_option("--rank", flags.rank)->group("");
  app.add_option("--channel", flags.channel)->group("");
  app.add_option("--mib", flags.mib, "size of the model")->check(CLI::Range(64, 65536));
  app.add_option("--members", flags.members, "numbers of workers")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--repeats", flags.repeats, "of each row of the table; the median counts");
  app.add_option("--buffer-kib", flags.buffer_kib, "size of a buffer");
  app.add_option("--buffers", flags.buffers, "number of buffers");
  CLI11_PARSE(app, argc, argv);
  if (flags.rank < 0) {
    const uint32_t most = *std::max_element(flags.members.begin(), flags.members.end());
    return RunStar(static_cast<int>(most) + 1, {argv + 1, argv + argc});
  }
  Rank(flags).RunAll();
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
