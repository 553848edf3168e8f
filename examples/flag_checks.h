#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

namespace packcast::examples {

// Checks for flags: what is wrong with a text; "" when nothing is.

// The port of an address. (The rest is found out by who uses the address; ports beyond 65535 would
// be cut to 16 bits in silence.)
std::string WrongPort(const std::string& endpoint);

// A whole number from `least` to `most`, in plain digits. CLI11 by itself reads 010 as 8 and -1 as
// the largest number of 64 bits, which is also what it makes of larger ones.
std::string WrongNumber(const std::string& text, uint64_t least, uint64_t most);
CLI::Validator NumberFrom(uint64_t least, uint64_t most);
// The same, or a text that means something of its own, such as -1.
CLI::Validator NumberFromOr(const std::string& special, uint64_t least, uint64_t most);

// A buffer's largest size, 0 for any.
CLI::Validator BufferLimit();

// Seconds from 0 on, or more than 0, and 30 days at most: the longest deadline of a call.
CLI::Validator SecondsFromZero();
CLI::Validator SecondsAboveZero();

// What the coordinator's policy begins with, in the program that has one and in those that start
// one.
void AddPolicyFlags(CLI::App* app, uint64_t* buffer_bytes, uint32_t* buffers, std::string* install);

}  // namespace packcast::examples
