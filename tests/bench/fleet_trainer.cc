#include "tests/bench/fleet_trainer.h"

#include <utility>

#include "actors/sources/changing_source.h"
#include "actors/sources/generated_source.h"
#include "tests/bench/part_source.h"
#include "tests/bench/resident_source.h"
#include "tests/bench/take.h"

namespace packcast::bench {

std::vector<Row> FleetRows(const std::string& list, std::string* model) {
  if (list == "-") {
    if (model != nullptr) *model = "one row of 2 KiB";
    Row row;
    row.name = "row";
    row.dtype = Dtype::kBF16;
    row.shape = {1024};
    return {row};
  }
  ShapesFile file = Take(ShapesFile::Load(list));
  if (model != nullptr) *model = file.model;
  return std::move(file.rows);
}

FleetTrainer::FleetTrainer(const FleetFlags& flags, const std::string& list,
                           const std::string& coordinator, Runtime* runtime) {
  const std::vector<Row> rows = FleetRows(list);
  std::unique_ptr<WeightSource> weights;
  if (flags.host) {
    weights = Take(ChangingSource::Make(Take(GeneratedSource::Make(rows, 1))));
  } else {
    auto resident = std::make_unique<ResidentSource>(rows, flags.gpu());
    refill = [raw = resident.get()](uint64_t seed) { raw->Refill(seed); };
    weights = std::move(resident);
  }
  TrainerOptions options;
  options.rank = static_cast<uint32_t>(flags.trainer_rank());
  options.unit_size = static_cast<uint32_t>(flags.trainers);
  options.name = "trainer-" + std::to_string(options.rank);
  if (flags.trainers > 1) {
    weights = std::make_unique<PartSource>(std::move(weights), options.rank, options.unit_size);
  }
  source = std::make_unique<WatchedSource>(std::move(weights));
  options.coordinator = coordinator;
  options.device = flags.device();
  options.peer_copies = flags.peer_copies;
  trainer = Take(Trainer::Start(runtime, options, source.get()));
}

}  // namespace packcast::bench
