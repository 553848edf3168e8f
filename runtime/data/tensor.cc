#include "runtime/data/tensor.h"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/data/tensor_batch.h"

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

std::unique_ptr<BatchSource> BatchesOf(std::vector<TensorBatch> batches) {
  return std::make_unique<VectorSource<BatchSource, TensorBatch>>(std::move(batches));
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

StatusOr<Conversion> ConversionOf(const NamedTensor& tensor) {
  const Dtype source = tensor.source_dtype.value_or(tensor.dtype);
  if (source == tensor.dtype) return Conversion::kNone;
  if (source == Dtype::kF32 && tensor.dtype == Dtype::kBF16) return Conversion::kF32ToBf16;
  if (source == Dtype::kF32 && tensor.dtype == Dtype::kF16) return Conversion::kF32ToFp16;
  return InvalidArgument("tensor \"" + tensor.name + "\" cannot be converted from " +
                         std::string(DtypeName(source)) + " to " +
                         std::string(DtypeName(tensor.dtype)));
}

StatusOr<std::vector<TensorDim>> StridedDims(const NamedTensor& tensor) {
  const auto bad = [&tensor](const std::string& what) {
    return InvalidArgument("tensor \"" + tensor.name + "\" " + what);
  };
  if (!tensor.strides.empty() && tensor.strides.size() != tensor.shape.size()) {
    return bad("has " + std::to_string(tensor.strides.size()) + " strides for shape " +
               ShapeToString(tensor.shape));
  }
  std::vector<TensorDim> dims;
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  if (empty) return dims;
  if (tensor.data == nullptr) return bad("has no data");
  if (IsContiguous(tensor)) return dims;
  const Dtype source = tensor.source_dtype.value_or(tensor.dtype);
  if (DtypeBits(source) % 8 != 0) {
    return bad("of " + std::string(DtypeName(source)) + " must be contiguous");
  }
  for (size_t k = 0; k < tensor.shape.size(); ++k) {
    if (tensor.shape[k] == 1) continue;
    const TensorDim dim{static_cast<uint64_t>(tensor.shape[k]), tensor.strides[k]};
    TensorDim* outer = dims.empty() ? nullptr : &dims.back();
    if (outer != nullptr && outer->stride == dim.stride * static_cast<int64_t>(dim.extent)) {
      *outer = TensorDim{outer->extent * dim.extent, dim.stride};
    } else {
      dims.push_back(dim);
    }
  }
  return dims;
}

Row RowOf(const NamedTensor& tensor) {
  return Row{.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape};
}

}  // namespace packcast
