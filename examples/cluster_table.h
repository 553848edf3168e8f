#pragma once

#include <string>
#include <vector>

#include "protocol/value.h"

namespace packcast::examples {

// The table of all epochs' reports.
std::string EpochTable(const std::vector<Value>& reports);

// What is wrong with a report: not committed, no worker, or a worker whose memory, read back, is
// not `expected`: the digest of the source's bytes. Without one (the label is a script's), workers
// are compared with what the trainer says it sent. Empty when all is well.
std::string WrongWith(const Value& report, const std::string& expected);

// "64 MiB", "1.5 GB/s".
std::string BytesText(double bytes);

}  // namespace packcast::examples
