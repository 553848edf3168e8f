#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "runtime/data/peer_memory.h"

namespace packcast::testing {

// Allocations of one process that stand for those of several devices.
struct PeerHub {
  struct Allocation {
    uint64_t serial = 0;
    uint64_t bytes = 0;
  };
  std::map<const std::byte*, Allocation> allocations;  // by where they begin
  uint64_t last_serial = 0;
  bool reachable = true;
  bool owner_died = false;
  bool shares_all = false;  // memory that nobody added, too

  void Add(const std::byte* data, uint64_t bytes) { allocations[data] = {++last_serial, bytes}; }
  void Remove(const std::byte* data) { allocations.erase(data); }
};

// The twin of a device's shared memory: copies are done one at a time, when somebody asks.
class HostPeerMemory final : public PeerMemory {
 public:
  explicit HostPeerMemory(PeerHub* hub) : hub_(hub) {}

  StatusOr<std::unique_ptr<PeerMemory>> Another() override {
    return std::unique_ptr<PeerMemory>(std::make_unique<HostPeerMemory>(hub_));
  }
  StatusOr<Place> Find(const std::byte* data, uint64_t bytes) override {
    if (hub_->shares_all) {
      return Place{reinterpret_cast<uint64_t>(data), uint64_t{1} << 40, HandleOf(data), 0};
    }
    auto found = hub_->allocations.upper_bound(data);
    if (found == hub_->allocations.begin()) return InvalidArgument("not shared");
    --found;
    const auto offset = static_cast<uint64_t>(data - found->first);
    if (offset + bytes > found->second.bytes) return InvalidArgument("not shared");
    return Place{found->second.serial, found->second.bytes, HandleOf(found->first), offset};
  }
  StatusOr<const std::byte*> Open(const Bytes& handle) override {
    if (!hub_->reachable) return Unimplemented("not reachable");
    if (hub_->owner_died) return Unavailable("no such memory");
    const std::byte* data = nullptr;
    if (handle.size() != sizeof data) return Internal("malformed");
    std::memcpy(&data, handle.data(), sizeof data);
    open.insert(data);
    return data;
  }
  void Close(const std::byte* data) override { open.erase(data); }
  Status Copy(const std::byte* from, std::byte* to, uint64_t bytes) override {
    work_.push_back({from, to, bytes});
    ++copies;
    return OkStatus();
  }
  Status Mark() override {
    work_.push_back({});
    return OkStatus();
  }
  StatusOr<uint64_t> Passed() override {
    if (!work_.empty()) {
      const Work& work = work_.front();
      if (work.to == nullptr) {
        ++passed_;
      } else {
        std::memcpy(work.to, work.from, work.bytes);
      }
      work_.pop_front();
    }
    return passed_;
  }
  Status Drain(Duration) override {
    work_.clear();
    ++drains;
    return OkStatus();
  }

  std::set<const std::byte*> open;  // mapped now
  int copies = 0;
  int drains = 0;

 private:
  struct Work {
    const std::byte* from = nullptr;
    std::byte* to = nullptr;  // null: a mark
    uint64_t bytes = 0;
  };
  static Bytes HandleOf(const std::byte* data) {
    Bytes handle(sizeof data);
    std::memcpy(handle.data(), &data, sizeof data);
    return handle;
  }

  PeerHub* const hub_;
  std::deque<Work> work_;
  uint64_t passed_ = 0;
};

}  // namespace packcast::testing
