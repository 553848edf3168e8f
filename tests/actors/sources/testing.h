#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "actors/weight_source.h"

namespace packcast::testing {

// The bytes of a safetensors file from its JSON header and its data; the length is right.
inline std::string FileOf(const std::string& header, const std::string& data) {
  std::string file;
  for (int k = 0; k < 8; ++k) file += static_cast<char>(uint64_t{header.size()} >> (8 * k) & 255);
  return file + header + data;
}

// "name": {...}, for FileOf.
inline std::string Entry(const std::string& name, const std::string& dtype,
                         const std::string& shape, uint64_t begin, uint64_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

// A file with this content, removed with the object.
class TempFile {
 public:
  explicit TempFile(const std::string& content) {
    path_ = ::testing::TempDir() + "/packcast_XXXXXX";
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    close(fd);
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TempFile() { unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string AsText(std::span<const std::byte> bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// All rows' bytes, as a fresh cursor gives them; checks that groups come in order.
inline std::vector<std::string> ReadAll(WeightSource& source, const Manifest& manifest) {
  std::vector<std::string> rows;
  std::unique_ptr<Cursor> cursor = source.Open(EpochInfo{}).value();
  while (true) {
    const TensorGroup group = cursor->Next().value();
    EXPECT_EQ(group.id, rows.size());
    if (group.tensors.empty()) break;
    EXPECT_EQ(group.tensors.size(), 1u);
    const SourceTensor& tensor = group.tensors[0];
    EXPECT_EQ(tensor.row, rows.size());
    EXPECT_EQ(tensor.dtype, manifest.rows()[tensor.row].dtype);
    EXPECT_TRUE(tensor.strides.empty());
    rows.push_back(AsText({tensor.data, manifest.row_bytes(tensor.row)}));
    cursor->Release(group.id);
  }
  EXPECT_EQ(rows.size(), manifest.size());
  return rows;
}

}  // namespace packcast::testing
