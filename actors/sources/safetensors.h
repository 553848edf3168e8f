#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// A whole file mapped into memory, read-only. Owns the mapping; move-only, and spans of bytes()
// survive a move. Immutable, so any thread may read it. The file must not shrink while mapped.
class MappedFile {
 public:
  // Regular files only (a FIFO or a directory is refused, not waited for). Errors name the path:
  // kNotFound, kPermissionDenied, kInvalidArgument (not a regular file), kResourceExhausted, and
  // kFailedPrecondition for what else the system says.
  static StatusOr<MappedFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  struct Unmap {
    size_t size;
    void operator()(const std::byte* data) const;
  };
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data, Unmap{size}), size_(size) {}

  std::string path_;
  std::unique_ptr<const std::byte[], Unmap> data_;
  size_t size_ = 0;
};

// One tensor of a file: name, dtype and shape, and where its bytes are.
struct SafetensorsTensor {
  Row row;
  std::span<const std::byte> data;
};

// What a safetensors file says. `tensors` is in the order of the data, tensors without bytes in
// the header's order among themselves.
struct SafetensorsContent {
  std::vector<SafetensorsTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// The longest header, as in the reference implementation (safetensors/src/tensor.rs).
inline constexpr uint64_t kSafetensorsHeaderBytes = 100'000'000;

// Parses and validates a safetensors file (https://huggingface.co/docs/safetensors, "Format"):
// 8 bytes little-endian header length, JSON header, data without holes. The spans point into
// `file`; `path` is for messages only. Pure. Errors (kInvalidArgument, with path, tensor and both
// values): truncated file, lying or oversized header length, bad JSON, duplicate keys, unknown
// dtype, bad shape, byte length unlike shape and dtype, offsets out of range, overlaps, holes.
StatusOr<SafetensorsContent> ParseSafetensors(std::span<const std::byte> file,
                                              const std::string& path);

// An open safetensors file: the mapping and what is in it. Owns both; immutable, so any thread may
// read it.
class SafetensorsFile {
 public:
  // Errors: those of MappedFile::Open and ParseSafetensors.
  static StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsTensor>& tensors() const { return content_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return content_.metadata; }

 private:
  SafetensorsFile(MappedFile file, SafetensorsContent content)
      : file_(std::move(file)), content_(std::move(content)) {}

  MappedFile file_;
  SafetensorsContent content_;
};

}  // namespace packcast
