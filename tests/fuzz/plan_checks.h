#pragma once

#include "protocol/manifest.h"
#include "protocol/plan.h"

namespace packcast::fuzz {

// Ends the process unless `plan` is what protocol/plan.h promises of `manifest` and `options`: each
// byte of the rows that travel in one region, in order; steps within their bounds.
void CheckPlan(const Manifest& manifest, const PlanOptions& options, const Plan& plan);

// So many steps and more take long, and show nothing that fewer do not.
bool IsLong(const Manifest& manifest, const PlanOptions& options);

}  // namespace packcast::fuzz
