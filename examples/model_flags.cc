#include "examples/model_flags.h"

#include <CLI/CLI.hpp>

#include "actors/sources/generated_source.h"
#include "actors/sources/safetensors_source.h"
#include "examples/flag_checks.h"

namespace packcast::examples {
namespace {

// About 50 MB in the proportions of a small transformer, with the shapes that trip naive packers:
// 0-d, empty, odd-sized.
std::vector<Row> BuiltInRows() {
  std::vector<Row> rows;
  const auto add = [&rows](std::string name, Dtype dtype, std::vector<int64_t> shape) {
    rows.push_back({std::move(name), dtype, std::move(shape), "", 0, {}});
  };
  add("embed_tokens.weight", Dtype::kBF16, {16384, 512});
  for (int layer = 0; layer < 8; ++layer) {
    const std::string p = "layers." + std::to_string(layer) + ".";
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      add(p + "self_attn." + name + ".weight", Dtype::kBF16, {512, 512});
    }
    add(p + "mlp.up_proj.weight", Dtype::kBF16, {1408, 512});
    add(p + "mlp.down_proj.weight", Dtype::kBF16, {512, 1408});
    add(p + "norm.weight", Dtype::kF32, {512});
  }
  add("rotary.scale", Dtype::kF32, {});
  add("adapter.empty", Dtype::kBF16, {0, 512});
  add("tokenizer.flags", Dtype::kU8, {1021});
  add("norm.weight", Dtype::kF32, {512});
  return rows;
}

}  // namespace

std::vector<std::string> ModelFlags::Arguments() const {
  std::vector<std::string> out;
  for (const std::string& file : files) out.push_back("--model=" + file);
  if (!shapes.empty()) out.push_back("--shapes=" + shapes);
  out.push_back("--seed=" + std::to_string(seed));
  return out;
}

void AddModelFlags(CLI::App* app, ModelFlags* flags) {
  CLI::Option* model = app->add_option("--model", flags->files,
                                       "a .safetensors file; repeat it for a sharded checkpoint");
  app->add_option("--shapes", flags->shapes,
                  "a JSON list of [name, dtype, shape], filled with seeded random bytes")
      ->excludes(model);
  app->add_option("--seed", flags->seed, "of generated weights")
      ->check(NumberFrom(0, UINT64_MAX))
      ->capture_default_str();
}

StatusOr<std::unique_ptr<ChangingSource>> MakeSource(const ModelFlags& flags) {
  if (!flags.files.empty()) {
    PC_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsSource> files,
                        SafetensorsSource::Make(flags.files));
    return ChangingSource::Make(std::unique_ptr<WeightSource>(std::move(files)));
  }
  PC_ASSIGN_OR_RETURN(std::vector<Row> rows, MakeRows(flags));
  PC_ASSIGN_OR_RETURN(std::unique_ptr<GeneratedSource> generated,
                      GeneratedSource::Make(std::move(rows), flags.seed));
  return ChangingSource::Make(std::move(generated));
}

StatusOr<std::vector<Row>> MakeRows(const ModelFlags& flags) {
  if (!flags.files.empty()) {
    PC_ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsSource> files,
                        SafetensorsSource::Make(flags.files));
    return files->manifest().rows();
  }
  if (flags.shapes.empty()) return BuiltInRows();
  PC_ASSIGN_OR_RETURN(ShapesFile shapes, ShapesFile::Load(flags.shapes));
  return std::move(shapes.rows);
}

}  // namespace packcast::examples
