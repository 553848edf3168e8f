#include "runtime/data/zmq_wire.h"

#include <cstring>

#include "protocol/codec.h"
#include "runtime/base/random.h"
#include "runtime/data/collective.h"

namespace packcast::zmq_bulk {
namespace {

constexpr uint8_t kVersion = 1;

template <class T>
void Put(T value, char** at) {
  std::memcpy(*at, &value, sizeof value);
  *at += sizeof value;
}

template <class T>
T Take(const std::byte** at) {
  T value;
  std::memcpy(&value, *at, sizeof value);
  *at += sizeof value;
  return value;
}

}  // namespace

std::string EncodeHeader(const Header& header) {
  std::string text(kHeaderBytes, '\0');
  char* at = text.data();
  Put(static_cast<uint8_t>(header.type), &at);
  Put(kVersion, &at);
  Put(header.flags, &at);
  Put(header.extra, &at);
  for (uint64_t word : {header.tag.hi, header.tag.lo, header.sequence, header.a, header.b}) {
    Put(word, &at);
  }
  return text;
}

std::string EncodePieces(const std::vector<uint64_t>& pieces) {
  return std::string(reinterpret_cast<const char*>(pieces.data()), pieces.size() * 8);
}

bool DecodePieces(std::span<const std::byte> bytes, std::vector<uint64_t>* pieces) {
  if (bytes.size() % 8 != 0 || bytes.size() / 8 > kSealPiecesMax) return false;
  pieces->resize(bytes.size() / 8);
  if (!bytes.empty()) std::memcpy(pieces->data(), bytes.data(), bytes.size());
  return true;
}

bool DecodeHeader(std::span<const std::byte> bytes, Header* header) {
  if (bytes.size() != kHeaderBytes) return false;
  const std::byte* at = bytes.data();
  const auto type = Take<uint8_t>(&at);
  if (type < static_cast<uint8_t>(Type::kHello) || type > static_cast<uint8_t>(Type::kPong)) {
    return false;
  }
  if (Take<uint8_t>(&at) != kVersion) return false;
  header->flags = Take<uint16_t>(&at);
  header->type = static_cast<Type>(type);
  header->extra = Take<uint32_t>(&at);
  header->tag.hi = Take<uint64_t>(&at);
  header->tag.lo = Take<uint64_t>(&at);
  header->sequence = Take<uint64_t>(&at);
  header->a = Take<uint64_t>(&at);
  header->b = Take<uint64_t>(&at);
  return true;
}

Bytes EncodeBlob(const Blob& blob) {
  Bytes token(16);
  std::memcpy(token.data(), &blob.token.hi, 8);
  std::memcpy(token.data() + 8, &blob.token.lo, 8);
  const std::string text =
      Encode(Value(ValueMap{{"endpoint", blob.endpoint}, {"token", std::move(token)}}));
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

StatusOr<Blob> DecodeBlob(const Bytes& bytes) {
  // No part of the blob goes into an error: it is a secret.
  const Status bad = InvalidArgument("the rendezvous of kind \"zmq\" is malformed");
  const StatusOr<Value> value = Decode(std::span<const std::byte>(bytes));
  if (!value.ok()) return bad;
  const Value* endpoint = value->Find("endpoint");
  const Value* token = value->Find("token");
  if (endpoint == nullptr || endpoint->AsString() == nullptr || token == nullptr ||
      token->AsBytes() == nullptr || token->AsBytes()->size() != 16) {
    return bad;
  }
  Blob blob{.endpoint = *endpoint->AsString()};
  if (blob.endpoint.compare(0, 6, "tcp://") != 0) return bad;
  std::memcpy(&blob.token.hi, token->AsBytes()->data(), 8);
  std::memcpy(&blob.token.lo, token->AsBytes()->data() + 8, 8);
  return blob;
}

Digest RandomToken() { return {RandomBits(), RandomBits()}; }

}  // namespace packcast::zmq_bulk
