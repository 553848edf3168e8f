#include "examples/rl/policy.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <utility>

namespace packcast::examples {
namespace {

constexpr size_t kLayers = 8;
constexpr int64_t kWidth = 256;

uint64_t Mix(uint64_t h) {
  h = (h ^ (h >> 31)) * 0x9e3779b97f4a7c15;
  return h ^ (h >> 29);
}

class PolicyCursor : public Cursor {
 public:
  explicit PolicyCursor(const Layers* layers) : layers_(layers) {}

  StatusOr<TensorGroup> Next() override {
    if (is_stopped_) return Aborted("the attempt was given up");
    TensorGroup group;
    if (next_ == layers_->size()) return group;
    group.id = next_;
    group.tensors.push_back({.row = static_cast<uint32_t>(next_),
                             .dtype = Dtype::kF32,
                             .data = reinterpret_cast<const std::byte*>((*layers_)[next_].data())});
    ++next_;
    return group;
  }
  // All lies in memory anyway, and nothing is made for the sync alone.
  uint64_t bytes_ahead() const override { return kNoLimit; }
  void Release(uint64_t) override {}
  Status StopAt(uint64_t) override {
    is_stopped_ = true;
    return OkStatus();
  }

 private:
  const Layers* const layers_;
  size_t next_ = 0;
  bool is_stopped_ = false;
};

}  // namespace

std::vector<Row> PolicyRows() {
  std::vector<Row> rows;
  for (size_t k = 0; k < kLayers; ++k) {
    rows.push_back({.name = "layers." + std::to_string(k) + ".weight",
                    .dtype = Dtype::kF32,
                    .shape = {kWidth, kWidth},
                    .group = static_cast<uint32_t>(k)});
  }
  return rows;
}

Layers MakeLayers() { return Layers(kLayers, std::vector<float>(kWidth * kWidth)); }

void Train(uint64_t label, Layers* layers) {
  uint64_t state = Mix(label);
  for (std::vector<float>& layer : *layers) {
    for (float& weight : layer) {
      state = Mix(state + 1);
      weight = static_cast<float>(state >> 40);
    }
  }
}

uint64_t Decode(const Layers& layers, uint64_t prompt, size_t position) {
  const std::vector<float>& layer = layers[position % layers.size()];
  uint64_t sum = 0;
  for (float weight : layer) sum = (sum ^ std::bit_cast<uint32_t>(weight)) * 0x100000001b3;
  return Mix(sum ^ Mix(prompt + position));
}

StatusOr<Manifest> PolicySource::Describe(const SyncRequest&) {
  return Manifest::Make(PolicyRows());
}

StatusOr<std::unique_ptr<Cursor>> PolicySource::Open(const EpochInfo&) {
  return std::unique_ptr<Cursor>(std::make_unique<PolicyCursor>(layers_));
}

StatusOr<Binding> PolicySink::Bind(const Manifest& manifest, InstallMode mode) {
  const std::vector<Row> expected = PolicyRows();
  for (size_t k = 0; k < std::min(manifest.size(), expected.size()); ++k) {
    const Row& row = manifest.rows()[k];
    if (row == expected[k]) continue;
    return InvalidArgument("row " + std::to_string(k) + " is \"" + row.name + "\", " +
                           std::string(DtypeName(row.dtype)) + " " + ShapeToString(row.shape) +
                           ", this engine wants \"" + expected[k].name + "\", " +
                           std::string(DtypeName(expected[k].dtype)) + " " +
                           ShapeToString(expected[k].shape));
  }
  if (manifest.size() != expected.size()) {
    return InvalidArgument("the trainer sends " + std::to_string(manifest.size()) +
                           " tensors, this engine wants " + std::to_string(expected.size()));
  }
  // Bank 0 of a binding is written first: not the one that serves, unless it is written in place.
  order_ = {1 - serving_, serving_};
  if (mode == InstallMode::kInPlace) order_ = {serving_};
  Binding binding;
  for (size_t bank : order_) {
    std::vector<Target>& targets = binding.banks.emplace_back();
    for (size_t k = 0; k < banks_[bank].size(); ++k) {
      targets.push_back({.kind = Target::Kind::kMemory,
                         .row = static_cast<uint32_t>(k),
                         .bytes = manifest.row_bytes(k),
                         .memory = reinterpret_cast<std::byte*>(banks_[bank][k].data())});
    }
  }
  return binding;
}

Status PolicySink::Load(const EpochInfo&, const TensorGroup&) {
  return Internal("no row is bound as a callback");
}

// What was written is simply written again.
void PolicySink::Discard(const EpochInfo&) {}

}  // namespace packcast::examples
