#pragma once

#include <string>

#include "protocol/value.h"

namespace packcast::examples {

// One line of JSON; bytes become their length.
std::string ToJson(const Value& value);

// Numbers and texts out of reports; the fallback when the path is not there.
double NumberAt(const Value& map, const std::string& key, double fallback = 0);
std::string TextAt(const Value& map, const std::string& key, const std::string& fallback = "");

}  // namespace packcast::examples
