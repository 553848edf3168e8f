// One rank of packcast beside ranks that know nothing of it (Layout::kCompat), for
// tests/gpu/compat_check.py, and by hand. Takes commands from its standard input, one a line, and
// answers each with one line; tests/gpu/compat_peer.py, the Python rank, has the same:
//
//   id                               -> id HEX         a new unique ID
//   join HEX                         -> joined
//   send LIST DATA BUFFER COUNT      -> sent STEPS SECONDS     the root
//   take LIST FILE BUFFER COUNT      -> took STEPS SECONDS     the others
//   end
//
// LIST is a JSON list of [name, dtype, shape]; DATA and FILE are all tensors' bytes end to end;
// BUFFER is the target size of a buffer in bytes, COUNT how many there are. What goes wrong is
// answered with "error TEXT", and ends the program.

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "actors/sources/generated_source.h"
#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "runtime/base/clock.h"
#include "runtime/data/cuda/compat_nccl.h"
#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"
#include "runtime/data/silent_collective.h"
#include "tests/gpu/socket_wire.h"

namespace packcast {
namespace {

struct Flags {
  uint32_t rank = 0;
  uint32_t size = 2;
  int device = 0;
  int socket = -1;
  std::string library;
  bool vllm = false;
  int seconds = 20;
  unsigned life_seconds = 300;
};

void Answer(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// Nothing else runs: threads may be stuck in what only the end of the process ends.
[[noreturn]] void Fail(const std::string& what) {
  Answer("error " + what);
  _exit(1);
}

void Check(const Status& status) {
  if (!status.ok()) Fail(status.ToString());
}

template <class T>
T Take(StatusOr<T> value) {
  Check(value.status());
  return std::move(value).value();
}

std::string ToHexText(std::span<const std::byte> bytes) {
  std::string text;
  char digits[3];
  for (const std::byte byte : bytes) {
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(byte));
    text += digits;
  }
  return text;
}

std::vector<std::byte> FromHexText(const std::string& text) {
  std::vector<std::byte> bytes;
  for (size_t k = 0; k + 1 < text.size(); k += 2) {
    unsigned value = 0;
    const char* const at = text.data() + k;
    if (std::from_chars(at, at + 2, value, 16).ptr != at + 2) Fail("an ID is hexadecimal digits");
    bytes.push_back(static_cast<std::byte>(value));
  }
  return bytes;
}

std::vector<std::byte> ReadFile(const std::string& path, uint64_t bytes) {
  std::vector<std::byte> content(bytes);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(bytes));
  if (!file.good() || file.peek() != EOF)
    Fail(path + " has not " + std::to_string(bytes) + " bytes");
  return content;
}

void WriteFile(const std::string& path, const std::vector<std::byte>& content) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
  file.close();
  if (!file) Fail(path + " cannot be written");
}

// The tensors of a list in an engine's memory, and what a broadcast of them needs to know.
class Tensors {
 public:
  Tensors(const std::string& list, uint64_t buffer_bytes, uint32_t count, CopyEngine* engine)
      : allocator_(engine->allocator()), manifest_(LoadRows(list)) {
    options_.plan.layout = Layout::kCompat;
    options_.plan.buffer_bytes = buffer_bytes;
    options_.buffer_count = count;
    options_.hash = false;
    plan_ = Take(MakePlan(manifest_, options_.plan));
    options_.manifest = &manifest_;
    options_.expected = &plan_;
    for (uint32_t row = 0; row < manifest_.size(); ++row) {
      places_.push_back(bytes_);
      bytes_ += AlignUp(manifest_.row_bytes(row));
    }
    bytes_ = std::max<uint64_t>(bytes_, 1);
    memory_ = Take(allocator_->Allocate(bytes_));
  }
  ~Tensors() { allocator_->Free(memory_, bytes_); }
  Tensors(const Tensors&) = delete;
  Tensors& operator=(const Tensors&) = delete;

  // The rows' bytes end to end, into memory and back.
  void Load(const std::vector<std::byte>& content);
  std::vector<std::byte> Content();
  // So that bytes that never came show.
  void Spoil() { CopyIn(std::vector<std::byte>(bytes_, std::byte{0xa5})); }

  std::unique_ptr<BatchSource> Source() const;
  TargetMap Targets() const;
  const Manifest& manifest() const { return manifest_; }
  const Plan& plan() const { return plan_; }
  const BroadcastOptions& options() const { return options_; }

 private:
  static Manifest LoadRows(const std::string& list) {
    return Take(Manifest::Make(Take(ShapesFile::Load(list)).rows));
  }
  void CopyIn(const std::vector<std::byte>& arena) {
    Check(allocator_->Copy(arena.data(), memory_, arena.size()));
  }

  Allocator* const allocator_;
  const Manifest manifest_;
  Plan plan_;
  BroadcastOptions options_;
  std::vector<uint64_t> places_;  // of rows, in memory_
  uint64_t bytes_ = 0;
  std::byte* memory_ = nullptr;
};

void Tensors::Load(const std::vector<std::byte>& content) {
  std::vector<std::byte> arena(bytes_);
  auto from = content.begin();
  for (size_t row = 0; row < places_.size(); ++row) {
    const auto bytes = static_cast<ptrdiff_t>(manifest_.row_bytes(row));
    std::copy(from, from + bytes, arena.begin() + static_cast<ptrdiff_t>(places_[row]));
    from += bytes;
  }
  CopyIn(arena);
}

std::vector<std::byte> Tensors::Content() {
  std::vector<std::byte> arena(bytes_);
  Check(allocator_->Copy(memory_, arena.data(), bytes_));
  std::vector<std::byte> content;
  content.reserve(manifest_.total_bytes());
  for (size_t row = 0; row < places_.size(); ++row) {
    const auto from = arena.begin() + static_cast<ptrdiff_t>(places_[row]);
    content.insert(content.end(), from, from + static_cast<ptrdiff_t>(manifest_.row_bytes(row)));
  }
  return content;
}

std::unique_ptr<BatchSource> Tensors::Source() const {
  TensorBatch batch;
  for (size_t row = 0; row < places_.size(); ++row) {
    batch.tensors.push_back({memory_ + places_[row], manifest_.rows()[row].dtype, {}});
  }
  std::vector<TensorBatch> batches;
  if (!batch.tensors.empty()) batches.push_back(std::move(batch));
  return BatchesOf(std::move(batches));
}

TargetMap Tensors::Targets() const {
  TargetMap targets(RowTarget::Kind::kSkip);
  for (uint32_t row = 0; row < places_.size(); ++row) {
    const uint64_t bytes = manifest_.row_bytes(row);
    if (bytes > 0) targets.SetRow(row, MemoryTarget(memory_ + places_[row], bytes));
  }
  return targets;
}

class Rank {
 public:
  explicit Rank(const Flags& flags) : flags_(flags) {
    options_.device = flags.device;
    options_.library = flags.library;
  }

  void Serve();

 private:
  bool is_root() const { return flags_.rank == 0; }
  Time Soon() const { return Now() + Seconds(flags_.seconds); }
  void MakeId();
  void Join(const std::string& hex);
  void Send(Tensors* tensors, const std::string& path);
  void Receive(Tensors* tensors, const std::string& path);
  void Broadcast(const std::string& word, std::istringstream* words);
  void Report(const std::string& word, const BroadcastResult& result, Duration took);

  const Flags flags_;
  NcclTransportOptions options_;
  std::optional<CompatId> id_;
  CompatEnd end_;
};

void Rank::MakeId() {
  if (flags_.socket < 0) {
    id_ = Take(MakeCompatId(options_));
  } else {
    id_ = CompatId();  // nobody looks at it
  }
  Answer("id " + ToHexText(id_->bytes));
}

void Rank::Join(const std::string& hex) {
  if (flags_.socket < 0) {
    end_ = Take(JoinCompat(options_, FromHexText(hex),
                           {.rank = flags_.rank,
                            .size = flags_.size,
                            .warm_up = flags_.vllm ? CompatWarmUp::kAllReduce : CompatWarmUp::kNone,
                            .deadline = Soon()}));
  } else {
    end_.engine = MakeHostCopyEngine();
    end_.collective = MakeSilentCollective({.rank = flags_.rank, .size = flags_.size},
                                           testing::MakeSocketWire(flags_.socket, is_root()));
  }
  while (!Take(end_.collective->Joined())) {
    Check(end_.collective->Poll(Milliseconds(10)));
  }
  id_.reset();
  Answer("joined");
}

void Rank::Report(const std::string& word, const BroadcastResult& result, Duration took) {
  Answer(word + " " + std::to_string(result.steps) + " " + std::to_string(ToSeconds(took)));
}

void Rank::Send(Tensors* tensors, const std::string& path) {
  tensors->Load(ReadFile(path, tensors->manifest().total_bytes()));
  const auto source = tensors->Source();
  const Time begin = Now();
  Check(end_.collective->Begin({}));
  const auto producer = Take(DeviceProducer::Make(end_.collective.get(), source.get(),
                                                  end_.engine.get(), tensors->options()));
  const BroadcastResult result = Take(producer->Run(Soon()));
  Report("sent", result, Now() - begin);
}

void Rank::Receive(Tensors* tensors, const std::string& path) {
  tensors->Spoil();
  const UnpackTable table =
      Take(UnpackTable::Make(tensors->manifest(), tensors->plan(), tensors->Targets(), false));
  const Time begin = Now();
  Check(end_.collective->Begin({}));
  Check(end_.collective->End(tensors->plan().steps.size()));
  const auto consumer = Take(
      DeviceConsumer::Make(end_.collective.get(), end_.engine.get(), tensors->options(), &table));
  const BroadcastResult result = Take(consumer->Run(Soon()));
  const Duration took = Now() - begin;
  WriteFile(path, tensors->Content());
  Report("took", result, took);
}

void Rank::Broadcast(const std::string& word, std::istringstream* words) {
  std::string list;
  std::string path;
  uint64_t buffer_bytes = 0;
  uint32_t count = 0;
  *words >> list >> path >> buffer_bytes >> count;
  if (!*words) Fail(word + " needs LIST FILE BUFFER COUNT");
  if (end_.collective == nullptr) Fail(word + " comes after join");
  Tensors tensors(list, buffer_bytes, count, end_.engine.get());
  word == "send" ? Send(&tensors, path) : Receive(&tensors, path);
}

void Rank::Serve() {
  Answer("ready");
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word == "end") break;
    if (word == "id") {
      MakeId();
    } else if (word == "join") {
      std::string hex;
      words >> hex;
      Join(hex);
    } else if (word == "send" || word == "take") {
      Broadcast(word, &words);
    } else if (!word.empty()) {
      Fail("unknown command " + word);
    }
  }
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("A rank that shares broadcasts with Python stacks; commands come from its input.");
  app.add_option("--rank", flags.rank, "of this one; 0 is the root");
  app.add_option("--size", flags.size, "ranks in all");
  app.add_option("--device", flags.device, "of CUDA");
  app.add_option("--library", flags.library, "libnccl.so.2, the same as the others'");
  app.add_flag("--vllm", flags.vllm, "the others' communicators begin with an all-reduce");
  app.add_option("--socket", flags.socket, "a descriptor to use in place of NCCL and of a GPU");
  app.add_option("--seconds", flags.seconds, "that one command may take");
  app.add_option("--life", flags.life_seconds, "seconds after which the program ends in any case");
  CLI11_PARSE(app, argc, argv);
  alarm(flags.life_seconds);
  Rank(flags).Serve();
  return 0;
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) { return packcast::Main(argc, argv); }
