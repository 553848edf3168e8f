// How fast a model's weights go from one GPU to another: raw ncclBroadcast in 1 GiB pieces, and
// packcast's broadcast of the same bytes, packed, direct, and as it chooses by itself, each with
// and without checksums. Two processes, two GPUs; one table. Every byte is verified.
//
//   sync [--repeats N] [--buffer-mib N] [--buffers N] ... LIST.json...   (--help has them all)

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "actors/sources/generated_source.h"
#include "protocol/contract.h"
#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "runtime/data/cuda/device.h"
#include "runtime/data/cuda/gpu_peer_transport.h"
#include "runtime/data/cuda/nccl_transport.h"
#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"
#include "tests/bench/duo.h"
#include "tests/bench/take.h"
#include "tests/gpu/fill.h"

namespace packcast::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kRawPiece = uint64_t{1} << 30;

struct Flags {
  int rank = -1;
  int channel = -1;
  int repeats = 7;
  uint64_t buffer_mib = 256;
  uint32_t buffers = 3;
  uint32_t blocks = 32;
  int ctas = 0;
  uint64_t direct_kib = 1024;
  uint64_t peer_direct_mib = 16;
  uint32_t in_flight = 4;
  uint64_t direct_step_mib = 1024;
  uint32_t direct_regions = 1024;
  std::string library;
  bool to_bf16 = false;
  bool taper = true;
  std::vector<std::string> lists;
};

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void CheckCuda(cudaError_t error) { Check(CudaStatus(error, "benchmark")); }

struct Weights {
  Manifest manifest;
  std::vector<std::byte*> rows;  // every row's memory, 256-byte aligned
  bool is_fp32 = false;          // in memory, where the manifest says BF16
};

struct Setting {
  std::string name;
  uint64_t direct_bytes_min = 0;  // 0: packed only
  bool hash = true;
  bool peer = false;  // peer copies instead of NCCL
};

// Everything that one of the two processes has.
class Rank {
 public:
  explicit Rank(const Flags& flags) : flags_(flags), rank_(flags.rank), channel_(flags.channel) {
    CheckCuda(cudaSetDevice(rank_));
    NcclTransportOptions options;
    options.device = rank_;
    options.library = flags_.library;
    options.cta_count_max = flags_.ctas;
    transport_ = Take(MakeNcclTransport(options));
    const auto begin = Clock::now();
    collective_ = Join(transport_.get());
    connect_seconds_ = SecondsSince(begin);
    GpuPeerOptions peer;
    peer.device = rank_;
    peer_transport_ = Take(MakeGpuPeerTransport(peer));
    peer_ = Join(peer_transport_.get());
    engine_ = Take(MakeCudaCopyEngine({rank_, flags_.blocks}));
  }

  void RunList(const std::string& path);
  double connect_seconds() const { return connect_seconds_; }
  std::string library() const { return transport_->offer().library; }

 private:
  bool is_root() const { return rank_ == 0; }
  std::unique_ptr<Collective> Join(Transport* transport);
  void Load(const ShapesFile& file, std::byte* memory);
  double Raw(std::byte* memory);
  double Broadcast(const Setting& setting, const Weights& weights, BroadcastResult* result);
  double Median(std::vector<double> seconds);
  PlanOptions PlanFor(const Setting& setting) const;
  const Plan& PlanOf(const Setting& setting);
  const UnpackTable& TableOf(const Setting& setting);

  const Flags flags_;
  const int rank_;
  Channel channel_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Collective> collective_;
  std::unique_ptr<Transport> peer_transport_;
  std::unique_ptr<Collective> peer_;
  std::unique_ptr<CopyEngine> engine_;
  std::unique_ptr<BufferRing> ring_;
  TargetMap targets_;
  Weights weights_;
  std::map<uint64_t, Plan> plans_;
  std::map<std::pair<uint64_t, bool>, UnpackTable> tables_;
  uint64_t epoch_ = 0;
  double connect_seconds_ = 0;
};

std::unique_ptr<Collective> Rank::Join(Transport* transport) {
  JoinOptions options;
  options.rank = static_cast<uint32_t>(rank_);
  options.size = 2;
  options.generation = GenerationId(1);
  options.deadline = Clock::now() + std::chrono::seconds(60);
  if (is_root()) {
    options.rendezvous = Take(transport->MakeRendezvous(options.generation));
    const Bytes& blob = options.rendezvous.blob;
    channel_.Send(std::string(reinterpret_cast<const char*>(blob.data()), blob.size()));
  } else {
    const std::string blob = channel_.Receive();
    const auto* data = reinterpret_cast<const std::byte*>(blob.data());
    options.rendezvous = {std::string(transport->kind()), Bytes(data, data + blob.size())};
  }
  auto collective = Take(transport->Join(options));
  while (!Take(collective->Joined())) Check(collective->Poll(Milliseconds(10)));
  return collective;
}

class BenchSource final : public BatchSource {
 public:
  explicit BenchSource(const Weights& weights) : weights_(weights) {}
  StatusOr<std::optional<TensorBatch>> Next() override {
    if (next_ == weights_.rows.size()) return std::optional<TensorBatch>();
    constexpr size_t kBatch = 64;
    TensorBatch batch;
    for (; batch.tensors.size() < kBatch && next_ < weights_.rows.size(); ++next_) {
      const Dtype dtype = weights_.manifest.rows()[next_].dtype;
      const bool wide = weights_.is_fp32 && dtype == Dtype::kBF16;
      batch.tensors.push_back({weights_.rows[next_], wide ? Dtype::kF32 : dtype, {}});
    }
    return std::optional<TensorBatch>(std::move(batch));
  }

 private:
  const Weights& weights_;
  size_t next_ = 0;
};

PlanOptions Rank::PlanFor(const Setting& setting) const {
  Contract contract;
  contract.buffer_bytes = flags_.buffer_mib << 20;
  contract.layout = Layout::kAligned;
  Flow flow;
  flow.direct_bytes_min = setting.direct_bytes_min;
  PlanOptions options = PlanOptionsOf(contract, flow, weights_.manifest);
  options.direct_bytes_per_step = flags_.direct_step_mib << 20;
  options.direct_regions_per_step = flags_.direct_regions;
  if (!flags_.taper) options.direct_bytes_total = options.packed_bytes_total = 0;
  return options;
}

const Plan& Rank::PlanOf(const Setting& setting) {
  Plan& plan = plans_[setting.direct_bytes_min];
  if (plan.steps.empty()) plan = Take(MakePlan(weights_.manifest, PlanFor(setting)));
  return plan;
}

const UnpackTable& Rank::TableOf(const Setting& setting) {
  const auto key = std::make_pair(setting.direct_bytes_min, setting.hash);
  auto found = tables_.find(key);
  if (found == tables_.end()) {
    UnpackTable table =
        Take(UnpackTable::Make(weights_.manifest, PlanOf(setting), targets_, setting.hash));
    found = tables_.emplace(key, std::move(table)).first;
  }
  return found->second;
}

// One broadcast of everything; the seconds until every member has verified it.
double Rank::Broadcast(const Setting& setting, const Weights& weights, BroadcastResult* result) {
  const Plan& plan = PlanOf(setting);
  BroadcastOptions options;
  options.plan = PlanFor(setting);
  options.hash = setting.hash;
  options.manifest = &weights.manifest;
  options.expected = &plan;
  options.ring = ring_.get();
  options.direct_steps_in_flight = flags_.in_flight;
  ring_->Reset();
  StreamId stream;
  stream.version.epoch = EpochId(++epoch_);
  stream.plan_digest = plan.digest;
  BenchSource source(weights);
  Collective* const collective = setting.peer ? peer_.get() : collective_.get();
  channel_.Barrier();
  const auto begin = Clock::now();
  Check(collective->Begin(stream));
  const Time deadline = Clock::now() + std::chrono::seconds(60);
  if (is_root()) {
    auto producer = Take(DeviceProducer::Make(collective, &source, engine_.get(), options));
    *result = Take(producer->Run(deadline));
  } else {
    auto consumer =
        Take(DeviceConsumer::Make(collective, engine_.get(), options, &TableOf(setting)));
    *result = Take(consumer->Run(deadline));
  }
  return SecondsSince(begin);
}

// The same bytes in pieces of 1 GiB, one ncclBroadcast after another: the ceiling.
double Rank::Raw(std::byte* memory) {
  StreamId stream;
  stream.version.epoch = EpochId(++epoch_);
  const uint64_t pieces = (weights_.manifest.total_bytes() + kRawPiece - 1) / kRawPiece;
  channel_.Barrier();
  Check(collective_->Begin(stream));
  // All is granted first, so that only gates travel while it runs.
  for (uint64_t k = 0; !is_root() && k < pieces; ++k) Check(collective_->Grant(Sequence(k)));
  while (!is_root() && !Take(collective_->Flushed())) Check(collective_->Poll(Milliseconds(1)));
  channel_.Barrier();
  const auto begin = Clock::now();
  for (uint64_t launched = 0; launched < pieces; ++launched) {
    while (!Take(collective_->Ready(Sequence(launched)))) Check(collective_->Poll(Milliseconds(1)));
    Check(collective_->Launch({.sequence = Sequence(launched),
                               .spans = {{memory, kRawPiece}},
                               .regions = 1,
                               .sealed = false}));
  }
  while (!Take(collective_->Done(Sequence(pieces - 1)))) Check(collective_->Poll(Milliseconds(1)));
  const double seconds = SecondsSince(begin);
  if (is_root()) {
    Check(collective_->End(pieces));
    while (!Take(collective_->Finished())) Check(collective_->Poll(Milliseconds(1)));
  } else {
    while (!Take(collective_->EndOf())) Check(collective_->Poll(Milliseconds(1)));
    Check(collective_->Finish());
    while (!Take(collective_->Flushed())) Check(collective_->Poll(Milliseconds(1)));
  }
  return seconds * static_cast<double>(weights_.manifest.total_bytes()) /
         static_cast<double>(pieces * kRawPiece);
}

double Rank::Median(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

void Rank::Load(const ShapesFile& file, std::byte* memory) {
  weights_ = Weights();
  plans_.clear();
  tables_.clear();
  weights_.manifest = Take(Manifest::Make(file.rows));
  weights_.is_fp32 = is_root() && flags_.to_bf16;
  targets_ = TargetMap();
  for (uint32_t row = 0; row < weights_.manifest.size(); ++row) {
    const uint64_t bytes = weights_.manifest.row_bytes(row);
    weights_.rows.push_back(memory);
    targets_.SetRow(row, MemoryTarget(memory, bytes));
    memory += AlignUp(weights_.is_fp32 ? 2 * bytes : bytes);
  }
}

void Rank::RunList(const std::string& path) {
  const ShapesFile file = Take(ShapesFile::Load(path));
  const bool converts = flags_.to_bf16;
  uint64_t bytes = kRawPiece;  // also what raw needs
  for (const Row& row : file.rows) bytes += AlignUp((converts ? 2 : 1) * Take(RowBytes(row)));
  std::byte* const memory = Take(engine_->allocator()->Allocate(bytes));
  CheckCuda(testing::FillRandom(memory, bytes, is_root() ? 1 : 2, nullptr));
  CheckCuda(cudaDeviceSynchronize());
  Load(file, memory);
  ring_ = Take(BufferRing::Make(flags_.buffer_mib << 20, flags_.buffers, engine_->allocator()));
  const int repeats = flags_.repeats;
  const uint64_t direct = flags_.direct_kib << 10;
  std::vector<Setting> settings = {{"packed", 0, true}, {"packed, no checksum", 0, false}};
  if (!converts) {
    settings.push_back({"direct", 1, true});
    settings.push_back({"direct, no checksum", 1, false});
    settings.push_back({"auto", direct, true});
    settings.push_back({"auto, no checksum", direct, false});
    settings.push_back({"peer, direct", flags_.peer_direct_mib << 20, true, true});
    settings.push_back({"peer, direct, no checksum", flags_.peer_direct_mib << 20, false, true});
  }
  settings.push_back({"peer, packed", 0, true, true});
  settings.push_back({"peer, packed, no checksum", 0, false, true});
  if (is_root()) {
    std::printf("\n%s: %zu tensors, %.2f GB%s\n", file.model.c_str(), file.rows.size(),
                static_cast<double>(weights_.manifest.total_bytes()) / 1e9,
                converts ? " on the wire, fp32 in memory" : "");
    std::printf("%-24s %8s %9s %9s %8s %7s %7s\n", "", "steps", "median", "best", "GB/s", "of raw",
                "first");
  }
  std::vector<double> raw;
  for (int k = 0; k < repeats + 1; ++k) raw.push_back(Raw(memory));
  raw.erase(raw.begin());
  const double total = static_cast<double>(weights_.manifest.total_bytes()) / 1e9;
  const double raw_seconds = Median(raw);
  const auto print = [&](const std::string& name, uint64_t steps, double median, double best,
                         double first) {
    if (!is_root()) return;
    std::printf("%-24s %8llu %6.2f ms %6.2f ms %8.1f %7.3f %4.0f ms\n", name.c_str(),
                static_cast<unsigned long long>(steps), 1e3 * median, 1e3 * best, total / median,
                raw_seconds / median, 1e3 * first);
    std::fflush(stdout);
  };
  print("raw ncclBroadcast", raw.size(), raw_seconds, *std::min_element(raw.begin(), raw.end()),
        raw.front());
  for (const Setting& setting : settings) {
    // Other bytes each time a setting begins, so that what is verified was really sent.
    if (is_root()) CheckCuda(testing::FillRandom(memory, bytes, 10 + epoch_, nullptr));
    CheckCuda(cudaDeviceSynchronize());
    std::vector<double> seconds;
    BroadcastResult result;
    for (int k = 0; k < repeats + 1; ++k) {
      seconds.push_back(Broadcast(setting, weights_, &result));
    }
    const double first = seconds.front();
    seconds.erase(seconds.begin());
    print(setting.name, result.steps, Median(seconds),
          *std::min_element(seconds.begin(), seconds.end()), first);
    // Both sides computed the checksums from their own memory.
    channel_.Send(ToHex(result.content_digest));
    if (channel_.Receive() != ToHex(result.content_digest)) Die("the checksums differ");
  }
  ring_.reset();
  channel_.Barrier();
  engine_->allocator()->Free(memory, bytes);
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Times the broadcast of lists of tensors from one GPU to another.");
  app.add_option("--rank", flags.rank)->group("");
  app.add_option("--channel", flags.channel)->group("");
  app.add_option("--repeats", flags.repeats, "of each row of the table; the median counts");
  app.add_option("--buffer-mib", flags.buffer_mib, "size of a buffer");
  app.add_option("--buffers", flags.buffers, "number of buffers on each side");
  app.add_option("--blocks", flags.blocks, "of the copy kernels");
  app.add_option("--ctas", flags.ctas, "that NCCL may use, at most; 0: its own choice");
  app.add_option("--direct-kib", flags.direct_kib, "auto: rows from this size on go direct");
  app.add_option("--peer-direct-mib", flags.peer_direct_mib, "the same with peer copies");
  app.add_option("--in-flight", flags.in_flight, "direct steps under way, at most");
  app.add_option("--direct-step-mib", flags.direct_step_mib, "size of a direct step");
  app.add_option("--direct-regions", flags.direct_regions, "regions of a direct step");
  app.add_option("--taper", flags.taper, "whether the last direct steps get smaller");
  app.add_option("--library", flags.library, "libnccl.so.2; the system's if empty");
  app.add_flag("--to-bf16", flags.to_bf16, "BF16 rows are fp32 in memory, and packed as bf16");
  app.add_option("list", flags.lists, "JSON lists of tensors")
      ->required()
      ->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  if (flags.rank < 0) return RunDuo({argv + 1, argv + argc});
  Rank self(flags);
  if (flags.rank == 0) {
    std::printf("%s; connected and warm after %.2f s; %u buffers of %llu MiB, %u blocks\n",
                self.library().c_str(), self.connect_seconds(), flags.buffers,
                static_cast<unsigned long long>(flags.buffer_mib), flags.blocks);
  }
  for (const std::string& list : flags.lists) self.RunList(list);
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
