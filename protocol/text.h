#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "protocol/limits.h"

namespace packcast {

// True for well-formed UTF-8: no overlong forms, surrogates, or values past U+10FFFF.
bool IsUtf8(std::string_view text);

// The longest prefix of at most `max_bytes` that does not end within a code point.
std::string_view CutText(std::string_view text, size_t max_bytes);

// `text` as every receiver accepts it: cut, and a '?' for each byte that is not UTF-8. For errors
// and reports, which may quote anything; a body with one bad string would be refused as a whole.
std::string WireText(std::string_view text, size_t max_bytes = limits::kStatusTextBytes);

}  // namespace packcast
