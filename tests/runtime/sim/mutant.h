#pragma once

#include <string_view>

namespace packcast::rtsim {

// Which bug of mutations.txt is awake in the mutated sources; "" is none.
inline std::string_view awake_mutant;

inline bool IsMutant(std::string_view name) { return awake_mutant == name; }

}  // namespace packcast::rtsim
