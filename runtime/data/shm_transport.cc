#include "runtime/data/shm_transport.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <utility>

#include "protocol/codec.h"
#include "runtime/data/shm_arena.h"
#include "runtime/data/shm_board.h"
#include "runtime/data/shm_collective.h"

namespace packcast {
namespace {

// The rendezvous: msgpack map of "pid", "fd" and "inode" (integers), "token" (16 random bytes) and
// "control" (the blob of the words' transport).
Bytes EncodeBlob(const ShmBoardName& name, const Bytes& control) {
  Bytes token(16);
  std::memcpy(token.data(), &name.token.hi, 8);
  std::memcpy(token.data() + 8, &name.token.lo, 8);
  const std::string text = Encode(Value(ValueMap{{"pid", name.pid},
                                                 {"fd", name.fd},
                                                 {"inode", name.inode},
                                                 {"token", std::move(token)},
                                                 {"control", control}}));
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

bool TakeNumber(const Value& map, const char* key, uint64_t* number) {
  const Value* value = map.Find(key);
  return value != nullptr && value->GetUint(number);
}

Status DecodeBlob(const Bytes& blob, ShmBoardName* name, Bytes* control) {
  // No part of the blob goes into an error: it is a secret.
  const Status bad = InvalidArgument("the rendezvous of kind \"shm\" is malformed");
  const StatusOr<Value> value = Decode(std::span<const std::byte>(blob));
  if (!value.ok()) return bad;
  const Value* token = value->Find("token");
  const Value* control_value = value->Find("control");
  if (!TakeNumber(*value, "pid", &name->pid) || !TakeNumber(*value, "fd", &name->fd) ||
      !TakeNumber(*value, "inode", &name->inode) || token == nullptr ||
      token->AsBytes() == nullptr || token->AsBytes()->size() != 16 || control_value == nullptr ||
      control_value->AsBytes() == nullptr) {
    return bad;
  }
  std::memcpy(&name->token.hi, token->AsBytes()->data(), 8);
  std::memcpy(&name->token.lo, token->AsBytes()->data() + 8, 8);
  *control = *control_value->AsBytes();
  return OkStatus();
}

class ShmTransport final : public Transport {
 public:
  ShmTransport(std::string kind, std::unique_ptr<Transport> control)
      : kind_(std::move(kind)), control_(std::move(control)) {}

  std::string_view kind() const override { return kind_; }
  Allocator* allocator() override { return &arena_; }
  bool members_need_buffers() const override { return false; }
  StatusOr<Rendezvous> MakeRendezvous(GenerationId generation) override;
  StatusOr<std::unique_ptr<Collective>> Join(const JoinOptions& options) override;
  void Forget(GenerationId generation) override {
    control_->Forget(generation);
    (void)TakeBoard(generation);
  }

 private:
  std::unique_ptr<ShmBoard> TakeBoard(GenerationId generation);

  const std::string kind_;
  const std::unique_ptr<Transport> control_;
  ShmArena arena_;
  std::mutex mutex_;
  std::map<GenerationId, std::unique_ptr<ShmBoard>> boards_;  // prepared and not joined
};

StatusOr<Rendezvous> ShmTransport::MakeRendezvous(GenerationId generation) {
  PC_ASSIGN_OR_RETURN(const Rendezvous control, control_->MakeRendezvous(generation));
  StatusOr<std::unique_ptr<ShmBoard>> board = ShmBoard::Make(generation);
  if (!board.ok()) {
    control_->Forget(generation);
    return board.status();
  }
  const Bytes blob = EncodeBlob((*board)->name(), control.blob);
  std::lock_guard lock(mutex_);
  boards_[generation] = std::move(board).value();
  return Rendezvous{std::string(kind()), blob};
}

std::unique_ptr<ShmBoard> ShmTransport::TakeBoard(GenerationId generation) {
  std::lock_guard lock(mutex_);
  auto node = boards_.extract(generation);
  return node ? std::move(node.mapped()) : nullptr;
}

StatusOr<std::unique_ptr<Collective>> ShmTransport::Join(const JoinOptions& options) {
  PC_RETURN_IF_ERROR(CheckJoin(options, kind()));
  ShmBoardName name;
  JoinOptions words = options;
  words.rendezvous.kind = std::string(control_->kind());
  PC_RETURN_IF_ERROR(DecodeBlob(options.rendezvous.blob, &name, &words.rendezvous.blob));
  if (options.rank == options.root) {
    PC_ASSIGN_OR_RETURN(std::unique_ptr<Collective> control, control_->Join(words));
    return MakeShmRoot(options, std::move(control), &arena_, TakeBoard(options.generation));
  }
  // First: who cannot read the root's memory says so, instead of joining.
  PC_ASSIGN_OR_RETURN(ShmBoardView board, ShmBoardView::Open(name, options.generation));
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Collective> control, control_->Join(words));
  return MakeShmMember(options, std::move(control), name.pid, std::move(board));
}

}  // namespace

std::optional<std::string> LocalShmKind() {
  std::string place;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> place;
  std::array<char, 64> name{};
  const ssize_t length = readlink("/proc/self/ns/pid", name.data(), name.size());
  if (place.empty() || length <= 0) return std::nullopt;
  place.append(name.data(), static_cast<size_t>(length));
  place += std::to_string(getuid());
  return "shm@" + ToHex(HashBytes(place)).substr(0, 8);
}

StatusOr<std::unique_ptr<Transport>> MakeShmTransport(ShmTransportOptions options) {
  options.control.bytes_elsewhere = true;
  options.control.read_in_place = true;
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Transport> control, MakeZmqTransport(options.control));
  return std::unique_ptr<Transport>(
      std::make_unique<ShmTransport>(std::move(options.kind), std::move(control)));
}

}  // namespace packcast
