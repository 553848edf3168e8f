#include "runtime/net/curve.h"

#include <zmq.h>

#include <cstdint>

#include "runtime/base/check.h"

namespace packcast::net {
namespace {
constexpr size_t kKeyBytes = 32;
constexpr size_t kKeyText = 40;
}  // namespace

KeyPair MakeKeyPair() {
  char public_key[kKeyText + 1];
  char secret_key[kKeyText + 1];
  PC_CHECK(zmq_curve_keypair(public_key, secret_key) == 0) << "this libzmq has no CURVE";
  return {public_key, secret_key};
}

StatusOr<std::string> DecodeKey(std::string_view z85) {
  uint8_t bytes[kKeyBytes];
  const std::string text(z85);
  const bool has_end = text.find('\0') != std::string::npos;  // libzmq would stop there
  if (text.size() != kKeyText || has_end || zmq_z85_decode(bytes, text.c_str()) == nullptr) {
    return InvalidArgument("a CURVE key is " + std::to_string(kKeyText) + " characters of Z85");
  }
  return std::string(reinterpret_cast<const char*>(bytes), sizeof bytes);
}

StatusOr<std::string> PublicKeyOf(const std::string& secret_key) {
  PC_RETURN_IF_ERROR(DecodeKey(secret_key).status());
  char public_key[kKeyText + 1];
  PC_CHECK(zmq_curve_public(public_key, secret_key.c_str()) == 0) << "this libzmq has no CURVE";
  return std::string(public_key);
}

}  // namespace packcast::net
