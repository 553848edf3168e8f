#pragma once

#include <cstdint>

#include "protocol/ids.h"

namespace packcast {

// 64 bits from the kernel. Thread-safe.
uint64_t RandomBits();
// Never 0. Below 2^63, so that languages without unsigned integers can hold it.
Incarnation RandomIncarnation();

}  // namespace packcast
