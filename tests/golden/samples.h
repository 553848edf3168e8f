#pragma once

#include <string>
#include <vector>

#include "protocol/frame.h"
#include "protocol/manifest.h"
#include "protocol/messages.h"
#include "protocol/plan.h"

// One example of everything that travels, with every field set to something other than its
// default. tests/golden/*.json hold their bytes; the round-trip tests use them too.
namespace packcast::golden {

// Every member message, in the order of the variant.
std::vector<MemberMessage> MemberSamples();
std::vector<CoordinatorMessage> CoordinatorSamples();

struct NamedEnvelope {
  std::string name;
  Envelope envelope;
};
// Every kind of frame.
std::vector<NamedEnvelope> EnvelopeSamples();
Hello HelloSample();
// Of a life that takes the place of another one, and what it was told of that.
Hello LaterHelloSample();
Value EarlierSample();
Hello WelcomeSample();
// Of a process that takes byte ranges apart, and a body with two, whose first bytes are 0 and 1.
Hello RangesHelloSample();
Value RangesSample();

struct PlanSample {
  std::string name;
  std::vector<Row> rows;
  PlanOptions options;
};
std::vector<PlanSample> PlanSamples();

// Bytes of row `row` from byte `offset` on.
struct ContentPart {
  uint64_t row = 0;
  uint64_t offset = 0;
  Bytes bytes;
};
struct ContentSample {
  std::string name;
  std::vector<ContentPart> parts;
};
std::vector<ContentSample> ContentSamples();

}  // namespace packcast::golden
