#pragma once

#include <nccl.h>

#include <string>

#include "protocol/status.h"

namespace packcast {

// The functions of a libnccl that was loaded at run time: the process's own if it has one, so that
// packcast lives beside PyTorch. Never unloaded. Immutable; thread-safe.
struct NcclLibrary {
  int version = 0;  // 22809 is 2.28.9
  decltype(&::ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&::ncclCommInitRankConfig) init_rank = nullptr;
  decltype(&::ncclCommGetAsyncError) async_error = nullptr;
  decltype(&::ncclCommAbort) abort = nullptr;
  decltype(&::ncclBroadcast) broadcast = nullptr;
  decltype(&::ncclGroupStart) group_start = nullptr;
  decltype(&::ncclGroupEnd) group_end = nullptr;
  decltype(&::ncclGetErrorString) error_string = nullptr;
  decltype(&::ncclGetLastError) last_error = nullptr;
};

// `path` of libnccl.so.2; empty: one that is in this process already, else the system's. The first
// successful call decides. kUnavailable says what is missing and how to name it.
StatusOr<const NcclLibrary*> LoadNccl(const std::string& path = "");

// "2.28.9"
std::string NcclVersionName(int version);

// OK, or kInternal with `what` and NCCL's words (kUnavailable when they are about a peer or the
// connection); InProgress is OK.
Status NcclStatus(const NcclLibrary& library, ncclResult_t result, ncclComm_t comm,
                  const std::string& what);

}  // namespace packcast
