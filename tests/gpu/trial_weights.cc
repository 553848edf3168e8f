#include "tests/gpu/trial_weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "actors/sources/changing_source.h"
#include "actors/sources/generated_source.h"
#include "actors/sources/row_cursor.h"
#include "actors/sources/row_memory.h"
#include "runtime/base/clock.h"
#include "runtime/base/failpoint.h"
#include "runtime/data/cuda/device.h"
#include "tests/gpu/fill.h"

namespace packcast::trial {
namespace {

constexpr uint64_t kPackedRowBytes = uint64_t{512} << 10;
constexpr uint64_t kDirectRowBytes = uint64_t{32} << 20;
constexpr uint64_t kOddRowBytes = 777'777;

// Random weights that lie on a device, as a trainer's do.
class DeviceSource final : public WeightSource {
 public:
  static StatusOr<std::unique_ptr<WeightSource>> Make(std::vector<Row> rows, int device) {
    PC_ASSIGN_OR_RETURN(Manifest manifest, Manifest::Make(std::move(rows)));
    PC_ASSIGN_OR_RETURN(RowMemory memory,
                        RowMemory::Allocate(manifest, "weights", DeviceAllocator(device)));
    std::unique_ptr<DeviceSource> source(
        new DeviceSource(std::move(manifest), std::move(memory), device));
    PC_RETURN_IF_ERROR(source->Describe(SyncRequest{}).status());  // which loads the kernel too
    return std::unique_ptr<WeightSource>(std::move(source));
  }

  StatusOr<Manifest> Describe(const SyncRequest& request) override {
    if (label_ == request.label) return manifest_;
    const ScopedDevice scoped(device_);
    // Rows lie one after the other.
    PC_RETURN_IF_ERROR(CudaStatus(
        testing::FillRandom(memory_.row(0).data(), memory_.mapped_bytes(), request.label, nullptr),
        "filling"));
    PC_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(cudaStreamLegacy), "filling"));
    label_ = request.label;
    return manifest_;
  }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo&) override {
    return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
  }

 private:
  DeviceSource(Manifest manifest, RowMemory memory, int device)
      : manifest_(std::move(manifest)), memory_(std::move(memory)), device_(device) {
    for (size_t k = 0; k < memory_.size(); ++k) rows_.push_back(memory_.row(k).data());
  }

  const Manifest manifest_;
  const RowMemory memory_;
  const int device_;
  std::vector<const std::byte*> rows_;
  std::optional<uint64_t> label_;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

class FailingCursor final : public Cursor {
 public:
  explicit FailingCursor(std::unique_ptr<Cursor> cursor) : cursor_(std::move(cursor)) {}
  StatusOr<TensorGroup> Next() override {
    PC_RETURN_IF_ERROR(Failpoint("member.next"));
    return cursor_->Next();
  }
  uint64_t bytes_ahead() const override { return cursor_->bytes_ahead(); }
  void Release(uint64_t group) override { cursor_->Release(group); }
  Status StopAt(uint64_t group) override { return cursor_->StopAt(group); }

 private:
  const std::unique_ptr<Cursor> cursor_;
};

class FailingSource final : public WeightSource {
 public:
  explicit FailingSource(std::unique_ptr<WeightSource> source) : source_(std::move(source)) {}
  StatusOr<Manifest> Describe(const SyncRequest& request) override {
    return source_->Describe(request);
  }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override {
    PC_RETURN_IF_ERROR(Failpoint("member.open"));
    PC_ASSIGN_OR_RETURN(std::unique_ptr<Cursor> cursor, source_->Open(epoch));
    return std::unique_ptr<Cursor>(std::make_unique<FailingCursor>(std::move(cursor)));
  }

 private:
  const std::unique_ptr<WeightSource> source_;
};

}  // namespace

std::vector<Row> TrialRows(const WeightSize& size) {
  std::vector<Row> rows;
  const uint64_t packed = (size.packed_mib << 20) / kPackedRowBytes;
  const uint64_t direct = (size.direct_mib << 20) / kDirectRowBytes;
  const auto add = [&](const std::string& name, Dtype dtype, std::vector<int64_t> shape) {
    rows.push_back(Row{name, dtype, std::move(shape), "", static_cast<uint32_t>(rows.size()), {}});
  };
  add("odd", Dtype::kU8, {static_cast<int64_t>(kOddRowBytes)});
  add("scalar", Dtype::kF32, {});
  for (uint64_t k = 0; k < packed; ++k) {
    add("packed." + std::to_string(k), Dtype::kBF16, {static_cast<int64_t>(kPackedRowBytes / 2)});
    if (k < direct) {
      add("direct." + std::to_string(k), Dtype::kBF16, {static_cast<int64_t>(kDirectRowBytes / 2)});
    }
  }
  return rows;
}

StatusOr<std::unique_ptr<WeightSource>> MakeTrialSource(const WeightSize& size,
                                                        std::optional<int> device) {
  std::unique_ptr<WeightSource> source;
  if (device) {
    PC_ASSIGN_OR_RETURN(source, DeviceSource::Make(TrialRows(size), *device));
  } else {
    PC_ASSIGN_OR_RETURN(auto generated, GeneratedSource::Make(TrialRows(size), 1));
    PC_ASSIGN_OR_RETURN(source, ChangingSource::Make(std::move(generated)));
  }
  return std::unique_ptr<WeightSource>(std::make_unique<FailingSource>(std::move(source)));
}

TrialSink::TrialSink(Options options) : options_(std::move(options)) {
  sink_.UseMemory(options_.memory);
}

StatusOr<Binding> TrialSink::Bind(const Manifest& manifest, InstallMode mode) {
  PC_RETURN_IF_ERROR(Failpoint("member.bind"));
  PC_ASSIGN_OR_RETURN(Binding binding, sink_.Bind(manifest, mode));
  if (options_.after_bind) PC_RETURN_IF_ERROR(options_.after_bind());
  if (!options_.by_callback) return binding;
  by_memory_ = binding;
  for (std::vector<Target>& bank : binding.banks) {
    for (Target& target : bank) target.kind = Target::Kind::kCallback;
  }
  return binding;
}

void TrialSink::Quiesce(const EpochInfo& epoch, Done done) {
  {
    std::lock_guard lock(mutex_);
    is_quiet_ = true;
  }
  sink_.Quiesce(epoch, std::move(done));
}

void TrialSink::Resume(const EpochInfo& epoch, EpochOutcome outcome) {
  sink_.Resume(epoch, outcome);
  std::lock_guard lock(mutex_);
  is_quiet_ = false;
  changed_.notify_all();
}

Status TrialSink::Load(const EpochInfo& epoch, const TensorGroup& group) {
  PC_RETURN_IF_ERROR(Failpoint("member.load"));
  for (const SourceTensor& tensor : group.tensors) {
    if (epoch.bank >= by_memory_.banks.size() ||
        tensor.row >= by_memory_.banks[epoch.bank].size()) {
      return Internal("row " + std::to_string(tensor.row) + " has no place here");
    }
    const Target& target = by_memory_.banks[epoch.bank][tensor.row];
    if (tensor.bytes > 0) std::memcpy(target.memory + tensor.offset, tensor.data, tensor.bytes);
  }
  return OkStatus();
}

void TrialSink::Install(const EpochInfo& epoch, Done done) {
  sink_.Install(epoch, std::move(done));
}

StatusOr<Digest> TrialSink::DigestAtRest(Duration max_wait) {
  {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, max_wait, [this] { return !is_quiet_; })) {
      return DeadlineExceeded("the sink is out of service");
    }
  }
  PC_RETURN_IF_ERROR(sink_.misuse());
  return sink_.ServingDigest();
}

}  // namespace packcast::trial
