#include "runtime/data/cuda/nccl_library.h"

#include <dlfcn.h>

#include <memory>
#include <mutex>

namespace packcast {
namespace {

constexpr char kName[] = "libnccl.so.2";
constexpr int kVersionMin = 21800;  // non-blocking communicators that abort well

void* OpenLibrary(const std::string& path) {
  if (!path.empty()) return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (void* loaded = dlopen(kName, RTLD_NOW | RTLD_NOLOAD)) return loaded;
  return dlopen(kName, RTLD_NOW | RTLD_LOCAL);
}

template <class Function>
void Find(void* handle, const char* name, Function* function, std::string* missing) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  if (*function == nullptr) *missing += (missing->empty() ? "" : ", ") + std::string(name);
}

StatusOr<std::unique_ptr<NcclLibrary>> Load(const std::string& path) {
  void* handle = OpenLibrary(path);
  if (handle == nullptr) {
    const char* why = dlerror();
    return Unavailable("NCCL cannot be loaded (" + std::string(why ? why : "no reason given") +
                       "); install libnccl2, or name its libnccl.so.2");
  }
  auto library = std::make_unique<NcclLibrary>();
  std::string missing;
  decltype(&::ncclGetVersion) get_version = nullptr;
  Find(handle, "ncclGetVersion", &get_version, &missing);
  Find(handle, "ncclGetUniqueId", &library->get_unique_id, &missing);
  Find(handle, "ncclCommInitRankConfig", &library->init_rank, &missing);
  Find(handle, "ncclCommGetAsyncError", &library->async_error, &missing);
  Find(handle, "ncclCommAbort", &library->abort, &missing);
  Find(handle, "ncclBroadcast", &library->broadcast, &missing);
  Find(handle, "ncclGroupStart", &library->group_start, &missing);
  Find(handle, "ncclGroupEnd", &library->group_end, &missing);
  Find(handle, "ncclGetErrorString", &library->error_string, &missing);
  Find(handle, "ncclGetLastError", &library->last_error, &missing);
  if (!missing.empty()) return Unavailable("this libnccl lacks " + missing);
  if (get_version(&library->version) != ncclSuccess || library->version < kVersionMin) {
    return Unavailable("NCCL " + NcclVersionName(library->version) +
                       " is too old: " + NcclVersionName(kVersionMin) + " is needed");
  }
  return library;
}

}  // namespace

std::string NcclVersionName(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

StatusOr<const NcclLibrary*> LoadNccl(const std::string& path) {
  static std::mutex mutex;
  static const NcclLibrary* loaded = nullptr;
  std::lock_guard lock(mutex);
  if (loaded == nullptr) {
    PC_ASSIGN_OR_RETURN(std::unique_ptr<NcclLibrary> library, Load(path));
    loaded = library.release();  // lives for ever, as the library does
  }
  return loaded;
}

Status NcclStatus(const NcclLibrary& library, ncclResult_t result, ncclComm_t comm,
                  const std::string& what) {
  if (result == ncclSuccess || result == ncclInProgress) return OkStatus();
  const char* last = library.last_error(comm);
  const std::string text = what + ": NCCL says " + library.error_string(result) +
                           (last != nullptr && *last != '\0' ? " (" + std::string(last) + ")" : "");
  // Connections and processes: rather another rank's trouble than this one's.
  const bool wire = result == ncclRemoteError || result == ncclSystemError;
  return wire ? Unavailable(text) : Internal(text);
}

}  // namespace packcast
