// What a build without CUDA has of broadcasts with other stacks: an error that says so.

#include "runtime/data/cuda/compat_nccl.h"

namespace packcast {
namespace {

Status NoCuda() {
  return Unimplemented("packcast was built without CUDA: install the toolkit and NCCL's header");
}

}  // namespace

StatusOr<CompatId> MakeCompatId(const NcclTransportOptions&) { return NoCuda(); }

StatusOr<CompatEnd> JoinCompat(const NcclTransportOptions&, std::span<const std::byte>,
                               const CompatJoin&) {
  return NoCuda();
}

}  // namespace packcast
