#include "actors/sources/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <limits>
#include <optional>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "protocol/dtype.h"
#include "protocol/limits.h"

namespace packcast {
namespace {

Status FromErrno(int error, const std::string& path, const char* what) {
  const std::string message = path + ": " + what + ": " + std::strerror(error);
  if (error == ENOENT || error == ENOTDIR) return NotFound(message);
  if (error == EACCES || error == EPERM) return PermissionDenied(message);
  if (error == ENOMEM || error == EMFILE || error == ENFILE) return ResourceExhausted(message);
  return FailedPrecondition(message);
}

// Text of an untrusted file, quoted, escaped and cut for a message.
std::string Quote(const std::string& text) {
  constexpr size_t kShown = 200;
  using Json = nlohmann::json;
  return Json(text.size() > kShown ? text.substr(0, kShown) + "..." : text)
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string DtypeNames() {
  std::string names;
  for (int k = 0; k < kDtypeCount; ++k) {
    names += (k > 0 ? ", " : "") + std::string(DtypeName(static_cast<Dtype>(k)));
  }
  return names;
}

// One tensor as the header describes it; not yet compared with the data.
struct Entry {
  Row row;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Takes the header's JSON event by event, so that duplicate keys are seen, nothing nests deeper
// than allowed and no tree is built. Lives for one parse.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Status status;
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool null() override {
    return Ignored() || (where_ == Where::kTop && key_ == kMetadataKey) || Unexpected("null");
  }
  bool boolean(bool) override { return Ignored() || Unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override {
    return BadNumber(value == 0 ? "-0" : std::to_string(value), "which is negative");
  }
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t, const string_t& text) override {
    return BadNumber(text, "which is no whole number of 64 bits");
  }
  bool string(string_t& value) override;
  bool binary(binary_t&) override { return Unexpected("binary data"); }
  bool start_object(size_t) override;
  bool end_object() override;
  bool start_array(size_t) override;
  bool end_array() override;
  bool key(string_t& name) override;
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return Fail("the header is not JSON: at byte " + std::to_string(position) + ": " +
                Quote(error.what()));
  }

 private:
  enum class Where { kStart, kTop, kMetadata, kTensor, kShape, kOffsets };
  enum Field : unsigned { kOther = 0, kDtypeField = 1, kShapeField = 2, kOffsetsField = 4 };
  static constexpr const char* kMetadataKey = "__metadata__";

  bool Fail(std::string message) {
    if (status.ok()) status = InvalidArgument(std::move(message));
    return false;
  }
  bool Unexpected(const std::string& what) {
    return Fail(Thing() + ": found " + what + " where the format has none");
  }
  std::string Thing() const {
    if (where_ == Where::kStart || (where_ == Where::kTop && key_.empty())) return "header";
    return key_ == kMetadataKey ? kMetadataKey : "tensor " + Quote(key_);
  }
  bool BadNumber(const std::string& text, const char* why) {
    if (Ignored()) return true;
    if (where_ != Where::kShape && where_ != Where::kOffsets) return Unexpected("a number");
    return Fail(Thing() + (where_ == Where::kShape ? ": shape" : ": data_offsets") + " has " +
                Quote(text) + ", " + why);
  }
  // Fields that we do not know are skipped, as the reference implementation does.
  bool Ignored() const {
    return ignored_depth_ > 0 || (where_ == Where::kTensor && field_ == kOther);
  }
  bool Deeper() {
    if (++ignored_depth_ <= limits::kValueDepth) return true;
    return Fail(Thing() + ": nested deeper than " + std::to_string(limits::kValueDepth));
  }
  bool LeftIgnored() { return ignored_depth_ > 0 && ignored_depth_-- > 0; }
  bool TopKey();
  bool TensorKey(const std::string& name);

  Where where_ = Where::kStart;
  std::string key_;           // of the top object: a tensor's name
  std::string metadata_key_;  // of __metadata__
  unsigned field_ = kOther;   // of the tensor
  unsigned fields_seen_ = 0;
  size_t offsets_seen_ = 0;
  size_t ignored_depth_ = 0;
  std::unordered_set<std::string> keys_;
};

bool HeaderReader::number_unsigned(number_unsigned_t value) {
  if (Ignored()) return true;
  if (where_ == Where::kShape) {
    std::vector<int64_t>& shape = entries.back().row.shape;
    if (shape.size() == limits::kTensorRank) {
      return Fail(Thing() + ": more than " + std::to_string(limits::kTensorRank) + " dimensions");
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(Thing() + ": extent " + std::to_string(value) + " in shape is too large");
    }
    shape.push_back(static_cast<int64_t>(value));
    return true;
  }
  if (where_ == Where::kOffsets) {
    if (++offsets_seen_ > 2) return Fail(Thing() + ": data_offsets has more than 2 numbers");
    (offsets_seen_ == 1 ? entries.back().begin : entries.back().end) = value;
    return true;
  }
  return Unexpected("a number");
}

bool HeaderReader::string(string_t& value) {
  if (Ignored()) return true;
  if (where_ == Where::kMetadata) {
    metadata[metadata_key_] = value;
    return true;
  }
  if (where_ != Where::kTensor || field_ != kDtypeField) return Unexpected("text " + Quote(value));
  const std::optional<Dtype> dtype = DtypeFromName(value);
  if (!dtype || DtypeName(*dtype) != value) {
    return Fail(Thing() + ": unknown dtype " + Quote(value) + "; known are " + DtypeNames());
  }
  entries.back().row.dtype = *dtype;
  return true;
}

bool HeaderReader::start_object(size_t) {
  if (Ignored()) return Deeper();
  if (where_ != Where::kStart && where_ != Where::kTop) return Unexpected("an object");
  if (where_ == Where::kStart || key_ == kMetadataKey) {
    where_ = where_ == Where::kStart ? Where::kTop : Where::kMetadata;
    return true;
  }
  if (entries.size() == limits::kManifestRows) {
    return Fail("more than " + std::to_string(limits::kManifestRows) + " tensors");
  }
  where_ = Where::kTensor;
  field_ = kOther;
  fields_seen_ = 0;
  entries.emplace_back().row.name = key_;
  return true;
}

bool HeaderReader::end_object() {
  if (LeftIgnored()) return true;
  if (where_ == Where::kTensor) {
    if ((fields_seen_ & kDtypeField) == 0) return Fail(Thing() + ": has no dtype");
    if ((fields_seen_ & kShapeField) == 0) return Fail(Thing() + ": has no shape");
    if ((fields_seen_ & kOffsetsField) == 0) return Fail(Thing() + ": has no data_offsets");
  }
  where_ = Where::kTop;
  key_.clear();
  return true;
}

bool HeaderReader::start_array(size_t) {
  if (Ignored()) return Deeper();
  if (where_ != Where::kTensor || field_ == kDtypeField) return Unexpected("an array");
  where_ = field_ == kShapeField ? Where::kShape : Where::kOffsets;
  offsets_seen_ = 0;
  return true;
}

bool HeaderReader::end_array() {
  if (LeftIgnored()) return true;
  if (where_ == Where::kOffsets && offsets_seen_ != 2) {
    return Fail(Thing() + ": data_offsets has " + std::to_string(offsets_seen_) +
                " numbers instead of 2");
  }
  where_ = Where::kTensor;
  field_ = kOther;
  return true;
}

bool HeaderReader::key(string_t& name) {
  if (ignored_depth_ > 0) return true;
  if (where_ == Where::kTensor) return TensorKey(name);
  if (where_ == Where::kMetadata) {
    metadata_key_ = name;
    if (metadata.contains(name)) return Fail("__metadata__: key " + Quote(name) + " comes twice");
    return true;
  }
  key_ = name;
  return TopKey();
}

bool HeaderReader::TopKey() {
  if (key_.empty()) return Fail("header: a tensor has an empty name");
  if (key_.size() > limits::kTensorNameBytes) {
    return Fail(Thing() + ": the name has " + std::to_string(key_.size()) + " bytes; at most " +
                std::to_string(limits::kTensorNameBytes) + " are allowed");
  }
  return keys_.insert(key_).second || Fail(Thing() + ": comes twice in the header");
}

bool HeaderReader::TensorKey(const std::string& name) {
  field_ = name == "dtype"          ? kDtypeField
           : name == "shape"        ? kShapeField
           : name == "data_offsets" ? kOffsetsField
                                    : kOther;
  if ((fields_seen_ & field_) != 0) return Fail(Thing() + ": " + name + " comes twice");
  fields_seen_ |= field_;
  return true;
}

// The header's JSON, after its length was checked against the file.
StatusOr<std::string_view> FindHeader(std::span<const std::byte> file) {
  const std::string_view all(reinterpret_cast<const char*>(file.data()), file.size());
  if (all.starts_with("version https://git-lfs")) {
    return InvalidArgument("is a Git LFS pointer instead of the weights; run \"git lfs pull\"");
  }
  if (all.size() < 8) {
    return InvalidArgument("has " + std::to_string(all.size()) +
                           " bytes; a safetensors file has at least 8. It is truncated or no "
                           "safetensors file");
  }
  uint64_t length = 0;
  for (size_t k = 8; k-- > 0;) length = length << 8 | static_cast<uint64_t>(file[k]);
  if (length > kSafetensorsHeaderBytes) {
    return InvalidArgument("claims a header of " + std::to_string(length) + " bytes; at most " +
                           std::to_string(kSafetensorsHeaderBytes) +
                           " are allowed. Is it a safetensors file?");
  }
  if (length > all.size() - 8) {
    return InvalidArgument("claims a header of " + std::to_string(length) + " bytes, but only " +
                           std::to_string(all.size() - 8) +
                           " follow. It is truncated (fetch it again) or no safetensors file");
  }
  const std::string_view header = all.substr(8, length);
  if (header.empty() || header[0] != '{') {
    return InvalidArgument("the header of " + std::to_string(length) +
                           " bytes does not begin with '{'. Is it a safetensors file?");
  }
  // The JSON parser would take a zero byte for the end and leave the rest unread.
  if (header.find('\0') != header.npos) {
    return InvalidArgument("the header is not JSON: it has a zero byte");
  }
  return header;
}

std::string Range(const Entry& entry) {
  return "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + ")";
}

Status CheckEntry(const Entry& entry, uint64_t data_bytes) {
  const std::string thing = "tensor " + Quote(entry.row.name);
  PC_ASSIGN_OR_RETURN(const uint64_t expected, RowBytes(entry.row));
  if (entry.begin > entry.end) {
    return InvalidArgument(thing + ": data_offsets " + Range(entry) + " end before they begin");
  }
  if (entry.end - entry.begin != expected) {
    return InvalidArgument(thing + ": data_offsets " + Range(entry) + " are " +
                           std::to_string(entry.end - entry.begin) + " bytes, but " +
                           std::string(DtypeName(entry.row.dtype)) + " of shape " +
                           ShapeToString(entry.row.shape) + " takes " + std::to_string(expected));
  }
  if (entry.end > data_bytes) {
    return InvalidArgument(thing + ": data_offsets " + Range(entry) +
                           " are out of range: the file has " + std::to_string(data_bytes) +
                           " bytes of data. It is truncated (fetch it again) or its header lies");
  }
  return OkStatus();
}

// Sorts by place in the data, which the entries must fill exactly.
Status SortAndCheck(std::vector<Entry>& entries, uint64_t data_bytes) {
  for (const Entry& entry : entries) PC_RETURN_IF_ERROR(CheckEntry(entry, data_bytes));
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t filled = 0;
  for (size_t k = 0; k < entries.size(); ++k) {
    const Entry& entry = entries[k];
    if (entry.begin < filled) {
      return InvalidArgument("tensors " + Quote(entries[k - 1].row.name) + " at " +
                             Range(entries[k - 1]) + " and " + Quote(entry.row.name) + " at " +
                             Range(entry) + " overlap");
    }
    if (entry.begin > filled) {
      return InvalidArgument("tensor " + Quote(entry.row.name) + ": before it, bytes [" +
                             std::to_string(filled) + ", " + std::to_string(entry.begin) +
                             ") of the data belong to no tensor; holes are not allowed");
    }
    filled = entry.end;
  }
  if (filled != data_bytes) {
    return InvalidArgument("the tensors take " + std::to_string(filled) +
                           " bytes, but the file has " + std::to_string(data_bytes) +
                           " bytes of data; holes are not allowed");
  }
  return OkStatus();
}

StatusOr<SafetensorsContent> Parse(std::span<const std::byte> file) {
  PC_ASSIGN_OR_RETURN(const std::string_view header, FindHeader(file));
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(header.data(), header.data() + header.size(), &reader)) {
    return reader.status.ok() ? InvalidArgument("the header is not JSON") : reader.status;
  }
  const std::span<const std::byte> data = file.subspan(8 + header.size());
  PC_RETURN_IF_ERROR(SortAndCheck(reader.entries, data.size()));
  SafetensorsContent content;
  content.metadata = std::move(reader.metadata);
  content.tensors.reserve(reader.entries.size());
  for (Entry& entry : reader.entries) {
    content.tensors.push_back(
        {std::move(entry.row), data.subspan(entry.begin, entry.end - entry.begin)});
  }
  return content;
}

}  // namespace

StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: a FIFO without a writer must not hang the caller.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FromErrno(errno, path, "cannot open");
  struct stat info = {};
  Status status;
  void* data = nullptr;
  if (fstat(fd, &info) != 0) {
    status = FromErrno(errno, path, "cannot stat");
  } else if (!S_ISREG(info.st_mode)) {
    status = InvalidArgument(path + ": is not a regular file");
  } else if (info.st_size > 0) {  // an empty file cannot be mapped
    data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) status = FromErrno(errno, path, "cannot map");
  }
  close(fd);
  if (!status.ok()) return status;
  return MappedFile(path, static_cast<const std::byte*>(data), static_cast<size_t>(info.st_size));
}

void MappedFile::Unmap::operator()(const std::byte* data) const {
  munmap(const_cast<std::byte*>(data), size);
}

StatusOr<SafetensorsContent> ParseSafetensors(std::span<const std::byte> file,
                                              const std::string& path) {
  try {
    StatusOr<SafetensorsContent> content = Parse(file);
    if (!content.ok()) return content.status().WithContext(path);
    return content;
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(path + ": no memory for its header");
  } catch (const std::exception& error) {
    return InvalidArgument(path + ": the header is not JSON: " + Quote(error.what()));
  }
}

StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  PC_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  PC_ASSIGN_OR_RETURN(SafetensorsContent content, ParseSafetensors(file.bytes(), path));
  return SafetensorsFile(std::move(file), std::move(content));
}

}  // namespace packcast
