#pragma once

#include <string>

#include "protocol/status.h"
#include "runtime/actor/runtime.h"

namespace packcast {

// Files with CURVE keys, as `bazel run //tools/keys` makes and changes them. One to a line, with
// what it is for: "public KEY", "secret KEY", "server KEY", "allow KEY" (any number); lines that
// begin with "# " are notes.

// A new pair; nothing is allowed beyond itself.
RuntimeKeys MakeKeys();

// Writes a new file that only its owner may read. With `replace` one that is there, whose owner and
// place stay, also behind a link. All of it is written, or nothing has changed. Errors:
// kAlreadyExists, kNotFound (to be replaced); those of the file system.
Status SaveKeys(const std::string& path, const RuntimeKeys& keys, bool replace = false);

// Errors name the file and the line, never a key: kNotFound, kInvalidArgument (not such a file),
// kPermissionDenied (others may read it).
StatusOr<RuntimeKeys> LoadKeys(const std::string& path);

// Whether they can be used. Errors (kInvalidArgument) say which is wrong, and no key.
Status CheckKeys(const RuntimeKeys& keys);

}  // namespace packcast
