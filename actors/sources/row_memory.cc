#include "actors/sources/row_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "protocol/plan.h"

namespace packcast {

StatusOr<RowMemory> RowMemory::Allocate(const Manifest& manifest, const std::string& purpose,
                                        Allocator* allocator) {
  RowMemory memory;
  std::vector<uint64_t> offsets;
  offsets.reserve(manifest.size());
  for (size_t k = 0; k < manifest.size(); ++k) {
    offsets.push_back(memory.mapped_bytes_);
    memory.mapped_bytes_ += AlignUp(manifest.row_bytes(k));
  }
  memory.rows_.resize(manifest.size());
  if (memory.mapped_bytes_ == 0) return memory;  // nothing cannot be mapped
  const StatusOr<std::byte*> data =
      allocator == nullptr ? Map(memory.mapped_bytes_) : allocator->Allocate(memory.mapped_bytes_);
  if (!data.ok()) {
    return data.status().WithContext("no memory for " + purpose + ": " +
                                     std::to_string(memory.mapped_bytes_) + " bytes for " +
                                     std::to_string(manifest.size()) + " tensors were asked for");
  }
  memory.data_ = {*data, Unmap{memory.mapped_bytes_, allocator}};
  for (size_t k = 0; k < manifest.size(); ++k) {
    memory.rows_[k] = {memory.data_.get() + offsets[k], manifest.row_bytes(k)};
  }
  return memory;
}

StatusOr<std::byte*> RowMemory::Map(uint64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return ResourceExhausted(std::strerror(errno));
  madvise(data, bytes, MADV_HUGEPAGE);  // fewer page faults where there are any
  return static_cast<std::byte*>(data);
}

void RowMemory::Unmap::operator()(std::byte* data) const {
  if (allocator == nullptr) {
    munmap(data, size);
  } else {
    allocator->Free(data, size);
  }
}

}  // namespace packcast
