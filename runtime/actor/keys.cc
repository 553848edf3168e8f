#include "runtime/actor/keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "runtime/net/curve.h"

namespace packcast {
namespace {

constexpr size_t kMostAllowed = 65'536;

Status FileError(const std::string& path, int error) {
  const std::string text = "keys file " + path + ": " + std::strerror(error);
  if (error == ENOENT) return NotFound(text + "; bazel run //tools/keys -- new " + path);
  if (error == EEXIST) return AlreadyExists(text);
  if (error == EACCES) return PermissionDenied(text);
  return Unavailable(text);
}

Status CheckKey(const char* what, const std::string& key) {
  return net::DecodeKey(key).status().WithContext(what);
}

}  // namespace

RuntimeKeys MakeKeys() {
  net::KeyPair pair = net::MakeKeyPair();
  return {std::move(pair.public_key), std::move(pair.secret_key), "", {}};
}

Status CheckKeys(const RuntimeKeys& keys) {
  PC_RETURN_IF_ERROR(CheckKey("the public key", keys.public_key));
  PC_RETURN_IF_ERROR(CheckKey("the secret key", keys.secret_key));
  PC_ASSIGN_OR_RETURN(const std::string derived, net::PublicKeyOf(keys.secret_key));
  if (keys.public_key != derived) {
    return InvalidArgument("the public key does not belong to the secret key");
  }
  if (!keys.server_public_key.empty()) {
    PC_RETURN_IF_ERROR(CheckKey("the server's key", keys.server_public_key));
  }
  for (size_t k = 0; k < keys.allowed.size(); ++k) {
    PC_RETURN_IF_ERROR(net::DecodeKey(keys.allowed[k])
                           .status()
                           .WithContext("allowed key " + std::to_string(k + 1)));
  }
  return OkStatus();
}

Status SaveKeys(const std::string& path, const RuntimeKeys& keys, bool replace) {
  PC_RETURN_IF_ERROR(CheckKeys(keys));
  std::string text =
      "# Keys of a packcast process. Who has the secret one is this process: keep it to "
      "yourself.\n";
  text += "public " + keys.public_key + "\nsecret " + keys.secret_key + "\n";
  if (!keys.server_public_key.empty()) text += "server " + keys.server_public_key + "\n";
  for (const std::string& key : keys.allowed) text += "allow " + key + "\n";
  // Whole or not at all: written beside it, then put in its place.
  const std::string beside = replace ? path + ".new" : path;
  const int fd = open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return FileError(beside, errno);
  int error = 0;
  for (size_t done = 0; done < text.size() && error == 0;) {
    const ssize_t put = write(fd, text.data() + done, text.size() - done);
    if (put > 0) done += static_cast<size_t>(put);
    if (put <= 0 && errno != EINTR) error = put < 0 ? errno : ENOSPC;
  }
  if (error == 0 && fsync(fd) != 0) error = errno;
  close(fd);
  if (error == 0 && (!replace || rename(beside.c_str(), path.c_str()) == 0)) return OkStatus();
  const Status failed = FileError(path, error == 0 ? errno : error);
  unlink(beside.c_str());
  return failed;
}

StatusOr<RuntimeKeys> LoadKeys(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return FileError(path, errno);
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return PermissionDenied("keys file " + path + " can be read by others: chmod 600 it");
  }
  std::ifstream file(path);
  if (!file) return FileError(path, errno);
  RuntimeKeys keys;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line.starts_with("# ")) continue;
    std::istringstream words(line);
    std::string what, key, rest;
    words >> what >> key;
    const std::string where = "keys file " + path + ", line " + std::to_string(number);
    const Status is_key = net::DecodeKey(key).status();
    if (!is_key.ok() || words >> rest) {
      return InvalidArgument(where + ": it is a word and a key of 40 characters");
    }
    std::string* const place = what == "public"   ? &keys.public_key
                               : what == "secret" ? &keys.secret_key
                               : what == "server" ? &keys.server_public_key
                                                  : nullptr;
    if (what == "allow" && keys.allowed.size() < kMostAllowed) {
      keys.allowed.push_back(key);
    } else if (place != nullptr && place->empty()) {
      *place = key;
    } else {
      return InvalidArgument(where + ": " +
                             (place != nullptr ? "it has that key already"
                                               : "it is one of public, secret, server, allow"));
    }
  }
  PC_RETURN_IF_ERROR(CheckKeys(keys).WithContext("keys file " + path));
  return keys;
}

}  // namespace packcast
