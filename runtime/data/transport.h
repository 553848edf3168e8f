#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/contract.h"
#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/data/collective.h"

namespace packcast {

class Allocator;

// How ranks of one generation find each other. The blob is a secret of that generation: who has
// it can join. Never logged; it has no ToString on purpose.
struct Rendezvous {
  std::string kind;
  Bytes blob;
};

struct JoinOptions {
  Rendezvous rendezvous;
  uint32_t rank = 0;
  uint32_t size = 0;
  uint32_t root = 0;
  GenerationId generation;
  // Members pass on what they have (Flow::relays): each reads from the rank before it, and
  // `rendezvous` is that rank's; at the root its own.
  bool relays = false;
  std::vector<std::string> names;  // of the ranks, for errors; empty or one each
  std::vector<uint32_t> numbers;   // what the ranks are called in errors; empty: as they are
  Time deadline = Time::max();     // Joined fails with kDeadlineExceeded after it
  uint32_t cta_count_max = 0;      // Contract::cta_count_max
};

class CopyEngine;

// Where a transport's bytes live, if not in host memory: its buffers come from the engine's
// allocator, and broadcasts over it are DeviceProducer's and DeviceConsumer's.
struct DevicePath {
  CopyEngine* engine = nullptr;  // of one thread at a time
};

// Makes collectives of one kind. One per process and kind; outlives its collectives. Thread-safe.
class Transport {
 public:
  virtual ~Transport() = default;

  // "local", "zmq", "shm", "nccl": the word in offers, contracts and rendezvous.
  virtual std::string_view kind() const = 0;
  // What this rank offers of it now.
  virtual TransportOffer offer() const {
    TransportOffer offer;
    offer.kind = kind();
    return offer;
  }
  // False once it was found out that it does not work here; it is not offered any more.
  virtual bool is_usable() const { return true; }

  // Null for host memory. Lives as long as the transport.
  virtual const DevicePath* device() const { return nullptr; }

  // Where the root's buffers must come from, on the host's path: its memory, or the memory that
  // members can read. Lives as long as the transport, and buffers must not outlive it.
  virtual Allocator* allocator();
  // Whether members need buffers of their own; else they read the root's (reads_in_place).
  virtual bool members_need_buffers() const { return true; }

  // Root, or a rank that passes on: prepares a generation. It is used by a later Join of that rank
  // here, once; a second call for one generation is kAlreadyExists.
  virtual StatusOr<Rendezvous> MakeRendezvous(GenerationId generation) = 0;

  // Starts to join and returns at once; Collective::Joined tells when it is done. Errors:
  // kInvalidArgument for ranks out of range or a blob of another kind, kNotFound at a root that
  // made no rendezvous for the generation.
  virtual StatusOr<std::unique_ptr<Collective>> Join(const JoinOptions& options) = 0;

  // Drops what MakeRendezvous prepared and Join did not use.
  virtual void Forget(GenerationId generation) = 0;
};

// Shared checks of JoinOptions against a transport's kind.
Status CheckJoin(const JoinOptions& options, std::string_view kind);

}  // namespace packcast
