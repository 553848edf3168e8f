#include "runtime/data/tensor.h"

#include <string>
#include <utility>

namespace packcast {
namespace {

// Hands the items of a vector out, moved.
template <class Base, class Item>
class VectorSource : public Base {
 public:
  explicit VectorSource(std::vector<Item> items) : items_(std::move(items)) {}
  StatusOr<std::optional<Item>> Next() override {
    if (next_ == items_.size()) return std::optional<Item>();
    return std::optional<Item>(std::move(items_[next_++]));
  }

 private:
  std::vector<Item> items_;
  size_t next_ = 0;
};

NamedTensor Narrow(NamedTensor tensor, Dtype dtype) {
  if (tensor.dtype == Dtype::kF32 && !tensor.source_dtype) {
    tensor.source_dtype = Dtype::kF32;
    tensor.dtype = dtype;
  }
  return tensor;
}

}  // namespace

std::unique_ptr<TensorSource> SourceOf(std::vector<NamedTensor> tensors) {
  return std::make_unique<VectorSource<TensorSource, NamedTensor>>(std::move(tensors));
}

std::unique_ptr<RowSource> RowsOf(std::vector<Row> rows) {
  return std::make_unique<VectorSource<RowSource, Row>>(std::move(rows));
}

StatusOr<NamedTensor> Fp32ToBf16(NamedTensor tensor) {
  return Narrow(std::move(tensor), Dtype::kBF16);
}

StatusOr<NamedTensor> Fp32ToFp16(NamedTensor tensor) {
  return Narrow(std::move(tensor), Dtype::kF16);
}

bool IsContiguous(const NamedTensor& tensor) {
  if (tensor.strides.empty()) return true;
  if (tensor.strides.size() != tensor.shape.size()) return false;
  int64_t expected = 1;
  for (size_t k = tensor.shape.size(); k-- > 0;) {
    if (tensor.shape[k] == 0) return true;
    // The stride of a dimension with one element is never used.
    if (tensor.shape[k] == 1) continue;
    if (tensor.strides[k] != expected) return false;
    expected *= tensor.shape[k];
  }
  return true;
}

Row RowOf(const NamedTensor& tensor) {
  return Row{.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape};
}

}  // namespace packcast
