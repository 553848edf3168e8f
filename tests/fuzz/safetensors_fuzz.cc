// Safetensors files: any bytes, and any header before data of a fitting length. A file that is
// taken has every byte of its data in one tensor, and makes a manifest.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "actors/sources/safetensors.h"
#include "protocol/manifest.h"
#include "protocol/text.h"
#include "runtime/base/check.h"
#include "tests/fuzz/input.h"

using namespace packcast;

namespace {

void Try(std::span<const std::byte> file) {
  const StatusOr<SafetensorsContent> content = ParseSafetensors(file, "file");
  if (!content.ok()) {
    PC_CHECK(content.status().code() == StatusCode::kInvalidArgument) << content.status();
    PC_CHECK(IsUtf8(content.status().message()));
    return;
  }
  uint64_t length = 0;
  for (size_t k = 8; k-- > 0;) length = length << 8 | static_cast<uint64_t>(file[k]);
  const std::byte* end = file.data() + 8 + length;
  std::vector<Row> rows;
  for (const SafetensorsTensor& tensor : content->tensors) {
    PC_CHECK(tensor.data.data() == end) << tensor.row.name;
    PC_CHECK(tensor.data.size() == RowBytes(tensor.row).value()) << tensor.row.name;
    end += tensor.data.size();
    rows.push_back(tensor.row);
  }
  PC_CHECK(end == file.data() + file.size()) << "data that belongs to no tensor";
  const StatusOr<Manifest> manifest = Manifest::Make(std::move(rows));
  PC_CHECK(manifest.ok()) << manifest.status();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  std::string file;
  if (in.Flag()) {
    const size_t data_bytes = in.Byte() + 256 * in.Below(4);
    const std::string header(in.Rest());
    for (int k = 0; k < 8; ++k) file += static_cast<char>(uint64_t{header.size()} >> (8 * k));
    file += header + std::string(data_bytes, 'w');
  } else {
    file = in.Rest();
  }
  // In memory of its exact size: reading past its end is seen.
  const std::vector<char> exact(file.begin(), file.end());
  Try(std::as_bytes(std::span(exact)));
  return 0;
}
