#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "actors/packcast.h"

namespace packcast::examples {

// The policy that this example trains: a few layers of floats. "Training" makes up the weights of a
// step from its number, and "decoding" hashes a whole layer for each token: so the trainer can tell
// from a token alone whether the engine had all bytes of the step that it names.

// A layer's floats, in the order of PolicyRows.
using Layers = std::vector<std::vector<float>>;

std::vector<Row> PolicyRows();
Layers MakeLayers();
// The weights of training step `label`, into what MakeLayers made.
void Train(uint64_t label, Layers* layers);
// The token at `position` of what the policy says to `prompt`.
uint64_t Decode(const Layers& layers, uint64_t prompt, size_t position);

// Where the trainer's weights come from. They stay as they are while a sync reads them: the
// training loop calls Sync and trains on when it returns.
class PolicySource : public WeightSource {
 public:
  explicit PolicySource(const Layers* layers) : layers_(layers) {}
  StatusOr<Manifest> Describe(const SyncRequest& request) override;
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override;

 private:
  const Layers* const layers_;
};

// An engine's memory for weights: two banks, of which a staged sync writes the one that does not
// serve; a sync in place writes the one that does. What the engine does when is its own affair:
// Quiesce, Resume and Install are left to it.
class PolicySink : public WeightSink {
 public:
  SinkCaps Caps() override { return {.staged = true, .in_place = true}; }
  StatusOr<Binding> Bind(const Manifest& manifest, InstallMode mode) override;
  Status Load(const EpochInfo& epoch, const TensorGroup& group) override;
  void Discard(const EpochInfo& epoch) override;

  // Of the engine's thread: what it decodes with.
  const Layers& serving() const { return banks_[serving_]; }

 protected:
  // The bank that an epoch wrote serves from now on.
  void Flip(const EpochInfo& epoch) { serving_ = order_[epoch.bank]; }

 private:
  Layers banks_[2] = {MakeLayers(), MakeLayers()};
  size_t serving_ = 0;
  std::vector<size_t> order_;  // of the banks in the binding
};

}  // namespace packcast::examples
