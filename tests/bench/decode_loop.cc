#include "tests/bench/decode_loop.h"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/data/cuda/device.h"
#include "tests/bench/decode_kernels.h"

namespace packcast::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBlockBytes = 32 * kMiB;
constexpr uint64_t kPooledBytes = 16 * kMiB;
constexpr uint64_t kPinnedBytes = 4 * kMiB;
constexpr uint32_t kFirstToken = 1;
constexpr uint32_t kWarmUpSteps = 20;

Status Checked(cudaError_t error) { return CudaStatus(error, "in the decode loop"); }

class DecodeStepper final : public Stepper {
 public:
  explicit DecodeStepper(const DecodeOptions& options) : options_(options) {}
  ~DecodeStepper() override;

  Status Prepare() override;
  Status Run(Step* step) override;
  uint64_t bytes() const override { return options_.layers * kLayerBytes + kHeadBytes; }

 private:
  Status Allocate();
  StatusOr<std::byte*> Take(uint64_t bytes);
  Status RunLayers();
  Status Capture();
  // The step around whatever runs the layers.
  Status Begin();
  Status End();
  Status CheckToken();
  Status Churn();

  const DecodeOptions options_;
  cudaStream_t stream_ = nullptr;
  std::vector<std::byte*> memory_;  // all of the device's
  std::vector<std::byte*> layers_;
  std::byte* head_ = nullptr;
  Activations at_;
  uint32_t* token_ = nullptr;  // pinned
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t layers_graph_ = nullptr;
  uint64_t steps_ = 0;
  std::optional<uint32_t> expected_;
};

DecodeStepper::~DecodeStepper() {
  const ScopedDevice scoped(options_.device);
  if (layers_graph_ != nullptr) (void)cudaGraphExecDestroy(layers_graph_);
  if (graph_ != nullptr) (void)cudaGraphDestroy(graph_);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  if (token_ != nullptr) (void)cudaFreeHost(token_);
  for (std::byte* data : memory_) (void)cudaFree(data);
}

StatusOr<std::byte*> DecodeStepper::Take(uint64_t bytes) {
  PC_ASSIGN_OR_RETURN(std::byte * data, DeviceAllocator(options_.device)->Allocate(bytes));
  memory_.push_back(data);
  return data;
}

Status DecodeStepper::Allocate() {
  for (uint32_t k = 0; k < options_.layers; ++k) {
    PC_ASSIGN_OR_RETURN(std::byte * layer, Take(kLayerBytes));
    layers_.push_back(layer);
    PC_RETURN_IF_ERROR(Checked(FillWeights(layer, kLayerBytes, k + 1, stream_)));
  }
  PC_ASSIGN_OR_RETURN(head_, Take(kHeadBytes));
  PC_RETURN_IF_ERROR(Checked(FillWeights(head_, kHeadBytes, 0, stream_)));
  PC_ASSIGN_OR_RETURN(std::byte * residual, Take(kHidden * sizeof(float)));
  at_.residual = reinterpret_cast<float*>(residual);
  PC_ASSIGN_OR_RETURN(at_.hidden, Take(2 * kHidden));
  PC_ASSIGN_OR_RETURN(at_.wide, Take(2 * 2 * kIntermediate));
  PC_ASSIGN_OR_RETURN(at_.logits, Take(2 * kVocabulary));
  PC_ASSIGN_OR_RETURN(std::byte * token, Take(sizeof(uint32_t)));
  at_.token = reinterpret_cast<uint32_t*>(token);
  void* pinned = nullptr;
  PC_RETURN_IF_ERROR(Checked(cudaMallocHost(&pinned, sizeof(uint32_t))));
  token_ = static_cast<uint32_t*>(pinned);
  return OkStatus();
}

Status DecodeStepper::RunLayers() {
  for (const std::byte* layer : layers_) PC_RETURN_IF_ERROR(Checked(RunLayer(layer, at_, stream_)));
  return OkStatus();
}

// Only this thread's calls are restricted meanwhile: others may allocate.
Status DecodeStepper::Capture() {
  PC_RETURN_IF_ERROR(Checked(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal)));
  const Status captured = RunLayers();
  const cudaError_t ended = cudaStreamEndCapture(stream_, &graph_);
  PC_RETURN_IF_ERROR(captured);
  PC_RETURN_IF_ERROR(Checked(ended));
  return Checked(cudaGraphInstantiate(&layers_graph_, graph_, 0));
}

Status DecodeStepper::Prepare() {
  PC_RETURN_IF_ERROR(Checked(cudaSetDevice(options_.device)));
  PC_RETURN_IF_ERROR(Checked(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)));
  PC_RETURN_IF_ERROR(Allocate());
  // Once without a graph: nothing may be loaded while one is captured.
  PC_RETURN_IF_ERROR(Begin());
  PC_RETURN_IF_ERROR(RunLayers());
  PC_RETURN_IF_ERROR(End());
  PC_RETURN_IF_ERROR(CheckToken());
  PC_RETURN_IF_ERROR(Capture());
  PC_RETURN_IF_ERROR(Churn());
  for (uint32_t k = 0; k < kWarmUpSteps; ++k) {
    Step step;
    PC_RETURN_IF_ERROR(Run(&step));
  }
  return OkStatus();
}

Status DecodeStepper::Begin() { return Checked(Embed(head_, kFirstToken, at_, stream_)); }

Status DecodeStepper::End() {
  PC_RETURN_IF_ERROR(Checked(PickToken(head_, at_, stream_)));
  return Checked(
      cudaMemcpyAsync(token_, at_.token, sizeof *token_, cudaMemcpyDeviceToHost, stream_));
}

Status DecodeStepper::CheckToken() {
  PC_RETURN_IF_ERROR(Checked(cudaStreamSynchronize(stream_)));
  if (!expected_) expected_ = *token_;
  if (*expected_ == *token_) return OkStatus();
  return DataLoss("the decode loop found token " + std::to_string(*token_) + " instead of " +
                  std::to_string(*expected_) + ": its memory was written over");
}

// The stream is at rest at its begin and end.
Status DecodeStepper::Churn() {
  void* block = nullptr;
  void* pooled = nullptr;
  void* pinned = nullptr;
  PC_RETURN_IF_ERROR(Checked(cudaMalloc(&block, kBlockBytes)));
  PC_RETURN_IF_ERROR(Checked(cudaMallocHost(&pinned, kPinnedBytes)));
  PC_RETURN_IF_ERROR(Checked(cudaMallocAsync(&pooled, kPooledBytes, stream_)));
  std::memset(pinned, 1, kPinnedBytes);
  PC_RETURN_IF_ERROR(
      Checked(cudaMemcpyAsync(pooled, pinned, kPinnedBytes, cudaMemcpyHostToDevice, stream_)));
  PC_RETURN_IF_ERROR(
      Checked(cudaMemcpyAsync(block, pooled, kPinnedBytes, cudaMemcpyDeviceToDevice, stream_)));
  PC_RETURN_IF_ERROR(Checked(cudaFreeAsync(pooled, stream_)));
  PC_RETURN_IF_ERROR(Checked(cudaStreamSynchronize(stream_)));
  PC_RETURN_IF_ERROR(Checked(cudaFreeHost(pinned)));
  return Checked(cudaFree(block));
}

Status DecodeStepper::Run(Step* step) {
  const Time begin = Now();
  if (options_.churn_steps > 0 && ++steps_ % options_.churn_steps == 0) {
    PC_RETURN_IF_ERROR(Churn());
  }
  const Time churned = Now();
  PC_RETURN_IF_ERROR(Begin());
  PC_RETURN_IF_ERROR(Checked(cudaGraphLaunch(layers_graph_, stream_)));
  PC_RETURN_IF_ERROR(End());
  const Time launched = Now();
  const Status status = CheckToken();
  step->churn = churned - begin;
  step->launch = launched - churned;
  step->wait = Now() - launched;
  return status;
}

class HostStepper final : public Stepper {
 public:
  Status Prepare() override {
    from_.assign(kBlockBytes, std::byte{1});
    to_.resize(kBlockBytes);
    return OkStatus();
  }
  Status Run(Step* step) override {
    const Time begin = Now();
    std::memcpy(to_.data(), from_.data(), from_.size());
    step->wait = Now() - begin;
    return OkStatus();
  }
  uint64_t bytes() const override { return kBlockBytes; }

 private:
  std::vector<std::byte> from_;
  std::vector<std::byte> to_;
};

}  // namespace

uint32_t KernelsOfGraph(const DecodeOptions& options) { return options.layers * kKernelsOfLayer; }

std::unique_ptr<Stepper> MakeDecodeStepper(const DecodeOptions& options) {
  return std::make_unique<DecodeStepper>(options);
}

std::unique_ptr<Stepper> MakeHostStepper() { return std::make_unique<HostStepper>(); }

}  // namespace packcast::bench
