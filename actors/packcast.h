#pragma once

// All that users of packcast include: coordinator, trainer and worker, and actors of one's own.
#include "actors/coordinator.h"
#include "actors/trainer.h"
#include "actors/weight_sink.h"
#include "actors/weight_source.h"
#include "actors/worker.h"
#include "runtime/actor/keys.h"
#include "runtime/actor/new_actor.h"
#include "runtime/actor/runtime.h"
#include "runtime/process/child.h"
#include "runtime/process/process.h"
