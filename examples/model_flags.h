#pragma once

#include <memory>
#include <string>
#include <vector>

#include "actors/sources/changing_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace CLI {
class App;
}

namespace packcast::examples {

// Which weights: safetensors files, a list of shapes, or a small built-in transformer.
struct ModelFlags {
  std::vector<std::string> files;  // --model
  std::string shapes;              // --shapes
  uint64_t seed = 1;

  // The same flags again, for a child process.
  std::vector<std::string> Arguments() const;
};

void AddModelFlags(CLI::App* app, ModelFlags* flags);

// Weights that change with each label.
StatusOr<std::unique_ptr<ChangingSource>> MakeSource(const ModelFlags& flags);

// Only the rows, for a worker that knows what to expect.
StatusOr<std::vector<Row>> MakeRows(const ModelFlags& flags);

}  // namespace packcast::examples
