#pragma once

#include <string>
#include <vector>

#include "protocol/value.h"

namespace packcast::examples {

// The table of all epochs' reports.
std::string EpochTable(const std::vector<Value>& reports);

// What is wrong with a report: not committed, a worker missing or with other bytes than the
// source's. Empty when all is well.
std::string WrongWith(const Value& report);

// "64 MiB", "1.5 GB/s".
std::string BytesText(double bytes);

}  // namespace packcast::examples
