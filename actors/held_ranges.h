#pragma once

#include <optional>
#include <vector>

#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "protocol/status.h"

namespace packcast {

// What WeightSource::Held says, as ranges of rows; nothing: all rows. Errors: kInvalidArgument for
// a row that the manifest does not have, kUnimplemented for a part of a row; both name it.
StatusOr<std::optional<std::vector<RowRange>>> HeldRanges(
    const std::optional<std::vector<Region>>& held, const Manifest& manifest);

}  // namespace packcast
