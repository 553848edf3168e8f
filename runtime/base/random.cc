#include "runtime/base/random.h"

#include <sys/random.h>

#include "runtime/base/check.h"

namespace packcast {

uint64_t RandomBits() {
  uint64_t bits = 0;
  ssize_t got = 0;
  do {
    got = getrandom(&bits, sizeof bits, 0);
  } while (got < 0);  // interrupted before the kernel had entropy
  PC_CHECK(got == sizeof bits) << "getrandom gave " << got << " bytes";
  return bits;
}

Incarnation RandomIncarnation() {
  uint64_t bits = 0;
  while (bits == 0) bits = RandomBits() >> 1;
  return Incarnation(bits);
}

}  // namespace packcast
