#pragma once

#include <string>
#include <string_view>

#include "protocol/status.h"

// CURVE keys as ZeroMQ writes them: 40 characters of Z85 for 32 bytes.
namespace packcast::net {

struct KeyPair {
  std::string public_key;
  std::string secret_key;
};

KeyPair MakeKeyPair();

// The 32 bytes of a key. Errors: kInvalidArgument: not 40 characters of Z85. No part of the text is
// in the error: it may be a secret key.
StatusOr<std::string> DecodeKey(std::string_view z85);

// The public key that belongs to a secret one. Errors: those of DecodeKey.
StatusOr<std::string> PublicKeyOf(const std::string& secret_key);

}  // namespace packcast::net
