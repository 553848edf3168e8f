#include "actors/sources/safetensors_source.h"

#include <string_view>
#include <unordered_map>
#include <utility>

namespace packcast {

SafetensorsSource::SafetensorsSource(std::vector<SafetensorsFile> files, Manifest manifest,
                                     std::vector<const std::byte*> rows)
    : files_(std::move(files)), manifest_(std::move(manifest)), rows_(std::move(rows)) {}

StatusOr<std::unique_ptr<SafetensorsSource>> SafetensorsSource::Make(
    const std::vector<std::string>& paths) {
  if (paths.empty()) return InvalidArgument("no safetensors file is given");
  std::vector<SafetensorsFile> files;
  files.reserve(paths.size());
  std::unordered_map<std::string_view, const std::string*> owners;  // tensor -> its file
  std::vector<Row> rows;
  std::vector<const std::byte*> data;
  for (const std::string& path : paths) {
    PC_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::Open(path));
    const SafetensorsFile& file = files.emplace_back(std::move(opened));
    for (const SafetensorsTensor& tensor : file.tensors()) {
      const auto [owner, is_new] = owners.emplace(tensor.row.name, &path);
      if (!is_new) {
        return InvalidArgument("tensor \"" + tensor.row.name +
                               "\" is in two files: " + *owner->second + " and " + path);
      }
      Row& row = rows.emplace_back(tensor.row);
      row.group = static_cast<uint32_t>(rows.size() - 1);
      data.push_back(tensor.data.data());
    }
  }
  PC_ASSIGN_OR_RETURN(Manifest manifest, Manifest::Make(std::move(rows)));
  return std::unique_ptr<SafetensorsSource>(
      new SafetensorsSource(std::move(files), std::move(manifest), std::move(data)));
}

StatusOr<Manifest> SafetensorsSource::Describe(const SyncRequest& request) {
  PC_RETURN_IF_ERROR(CheckFullSync(request));
  return manifest_;
}

StatusOr<std::unique_ptr<Cursor>> SafetensorsSource::Open(const EpochInfo&) {
  return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
}

}  // namespace packcast
