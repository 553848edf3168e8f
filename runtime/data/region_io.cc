#include "runtime/data/region_io.h"

#include <array>
#include <cstring>

namespace packcast {

bool Covers(const RowTarget& target, uint64_t offset, uint64_t bytes) {
  uint64_t covered = 0;
  ForEachPiece(target, offset, bytes,
               [&](uint64_t, std::byte*, uint64_t count) { covered += count; });
  return covered == bytes;
}

void HashPieces(const RowTarget& target, uint32_t row, uint64_t offset, uint64_t bytes,
                ContentHash* hash) {
  // The hash works on words of 8 bytes, and a piece may end inside one: such words are put
  // together here, everything else is hashed where it stands.
  std::array<std::byte, 8> word{};
  uint64_t word_fill = 0;
  uint64_t word_at = offset;
  ForEachPiece(target, offset, bytes, [&](uint64_t at, std::byte* data, uint64_t count) {
    while (count > 0) {
      const uint64_t whole = count / 8 * 8;
      if (word_fill == 0 && whole > 0) {
        hash->Add(row, at, {data, whole});
        at += whole;
        data += whole;
        count -= whole;
        continue;
      }
      if (word_fill == 0) word_at = at;
      const uint64_t part = std::min<uint64_t>(count, 8 - word_fill);
      std::memcpy(word.data() + word_fill, data, part);
      word_fill += part;
      at += part;
      data += part;
      count -= part;
      if (word_fill == 8) {
        hash->Add(row, word_at, word);
        word_fill = 0;
      }
    }
  });
  if (word_fill > 0) hash->Add(row, word_at, {word.data(), word_fill});
}

}  // namespace packcast
