#include "tests/sim/shrink.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace packcast::sim {
namespace {

// Other seeds that are tried for fewer workers: chance falls otherwise then.
constexpr uint64_t kOtherSeeds = 25;

class Shrinker {
 public:
  Shrinker(const RunOptions& failing, size_t runs_max) : runs_max_(runs_max) {
    best_.options = failing;
    best_.result = RunSeed(failing);
    kind_ = KindOf(best_.result.violation);
    best_.runs = 1;
  }

  Shrunk Run() {
    if (best_.result.violation.empty()) return best_;
    for (bool smaller = true; smaller && best_.runs < runs_max_;) {
      smaller = false;
      for (const auto step : {&Shrinker::FewerWorkers, &Shrinker::FewerCalls,
                              &Shrinker::FewerFaults, &Shrinker::Plainer}) {
        while ((this->*step)()) smaller = true;
      }
    }
    return best_;
  }

 private:
  bool Try(const RunOptions& options) {
    if (best_.runs >= runs_max_) return false;
    ++best_.runs;
    RunResult result = RunSeed(options);
    if (KindOf(result.violation) != kind_) return false;
    best_.options = options;
    best_.result = std::move(result);
    return true;
  }

  bool FewerWorkers() {
    for (uint32_t workers = 1; workers < best_.result.workers; ++workers) {
      RunOptions fewer = best_.options;
      fewer.workers = workers;
      if (Try(fewer)) return true;
      fewer.only.reset();
      for (uint64_t k = 0; k < kOtherSeeds; ++k) {
        fewer.seed = Mix(best_.options.seed + k) % 1'000'000'000;
        if (Try(fewer)) return true;
      }
    }
    return false;
  }

  bool FewerCalls() {
    for (uint32_t calls = 1; calls < best_.result.calls; ++calls) {
      RunOptions fewer = best_.options;
      fewer.calls = calls;
      if (Try(fewer)) return true;
    }
    return false;
  }

  // Without half of them, or a quarter, ... or a single one.
  bool FewerFaults() {
    const std::vector<uint32_t> all = best_.result.faults;
    if (!best_.options.only) {
      RunOptions named = best_.options;
      named.only = all;
      if (!Try(named)) return false;
    }
    for (size_t part = std::max<size_t>(all.size() / 2, 1); !all.empty(); part /= 2) {
      for (size_t begin = 0; begin < all.size(); begin += part) {
        RunOptions fewer = best_.options;
        const auto first = all.begin() + static_cast<ptrdiff_t>(begin);
        const auto last = all.begin() + static_cast<ptrdiff_t>(std::min(begin + part, all.size()));
        fewer.only = std::vector<uint32_t>(all.begin(), first);
        fewer.only->insert(fewer.only->end(), last, all.end());
        if (Try(fewer)) return true;
      }
      if (part == 1) break;
    }
    return false;
  }

  bool Plainer() {
    for (size_t k = 0; k < kTraits; ++k) {
      RunOptions plainer = best_.options;
      if (!plainer.without.insert(static_cast<Trait>(k)).second) continue;
      if (Try(plainer)) return true;
    }
    return false;
  }

  const size_t runs_max_;
  std::string kind_;
  Shrunk best_;
};

}  // namespace

std::string KindOf(const std::string& violation) {
  const size_t colon = violation.find(':');
  if (colon <= 4) return violation.substr(0, colon);
  std::string kind;
  for (const char c : violation) {
    if (c < '0' || c > '9') kind.push_back(c);
  }
  return kind;
}

Shrunk Shrink(const RunOptions& failing, size_t runs_max) {
  return Shrinker(failing, runs_max).Run();
}

std::string FlagsOf(const RunOptions& options) {
  std::string flags = "--seed " + std::to_string(options.seed);
  if (options.workers != 0) flags += " --workers " + std::to_string(options.workers);
  if (options.calls != 0) flags += " --calls " + std::to_string(options.calls);
  std::string list;
  for (const Trait trait : options.without) {
    list += (list.empty() ? "" : ",") + std::string(TraitName(trait));
  }
  if (!list.empty()) flags += " --without " + list;
  if (options.only) {
    list.clear();
    for (const uint32_t number : *options.only) {
      list += (list.empty() ? "" : ",") + std::to_string(number);
    }
    flags += " --only " + (list.empty() ? "none" : list);
  }
  if (options.mutation != Mutation::kNone) {
    flags += " --mutation " + std::string(MutationName(options.mutation));
  }
  return flags;
}

}  // namespace packcast::sim
