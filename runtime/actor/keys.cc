#include "runtime/actor/keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
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

// Writes all of it, to the disk. 0, or an errno.
int WriteOut(int fd, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t put = write(fd, text.data() + done, text.size() - done);
    if (put > 0) done += static_cast<size_t>(put);
    if (put <= 0 && errno != EINTR) return put < 0 ? errno : ENOSPC;
  }
  return fsync(fd) == 0 ? 0 : errno;
}

// Makes what its folder says of a file last. 0, or an errno.
int SyncFolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  // Not all file systems can.
  const int error = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
  close(fd);
  return error;
}

Status MakeFile(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return FileError(path, errno);
  int error = WriteOut(fd, text);
  close(fd);
  if (error != 0) unlink(path.c_str());
  if (error == 0) error = SyncFolderOf(path);
  return error == 0 ? OkStatus() : FileError(path, error);
}

// Where the file really is: a link to it stays one.
StatusOr<std::string> RealPath(const std::string& path) {
  char* const real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return FileError(path, errno);
  std::string text = real;
  std::free(real);
  return text;
}

// Gives the file at `fd` the owner and rights of another: whoever changes keys for a service (with
// sudo) must not lock it out. 0, or an errno.
int TakeAfter(int fd, const struct stat& other) {
  struct stat mine {};
  if (fstat(fd, &mine) != 0) return errno;
  const bool is_other = mine.st_uid != other.st_uid;
  const bool is_other_group = mine.st_gid != other.st_gid;  // which may not read it anyway
  if ((is_other || is_other_group) && fchown(fd, other.st_uid, other.st_gid) != 0 && is_other) {
    return errno;
  }
  return fchmod(fd, other.st_mode & S_IRWXU) == 0 ? 0 : errno;
}

// Whole or not at all: written beside it, then put in its place.
Status ReplaceFile(const std::string& path, const std::string& text) {
  PC_ASSIGN_OR_RETURN(const std::string real, RealPath(path));
  struct stat info {};
  if (stat(real.c_str(), &info) != 0) return FileError(path, errno);
  // A name of its own: what an interrupted run has left is in nobody's way.
  std::string beside = real + ".XXXXXX";
  const int fd = mkostemp(beside.data(), O_CLOEXEC);
  if (fd < 0) return FileError(path, errno).WithContext("writing beside it");
  int error = TakeAfter(fd, info);
  if (error == 0) error = WriteOut(fd, text);
  close(fd);
  if (error == 0 && rename(beside.c_str(), real.c_str()) != 0) error = errno;
  if (error != 0) unlink(beside.c_str());
  if (error == 0) error = SyncFolderOf(real);
  return error == 0 ? OkStatus() : FileError(path, error);
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
  return replace ? ReplaceFile(path, text) : MakeFile(path, text);
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
