#include "actors/sources/memory_sink.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "actors/sources/row_memory.h"

namespace packcast {

// ---- state --------------------------------------------------------------------------------------

void SinkStateCell::Store(const SinkState& state) {
  const uint64_t flags = (state.quiesced ? 1u : 0u) | (state.dirty ? 2u : 0u);
  words_.Store({state.version.term.counter, state.version.term.nonce, state.version.epoch.value,
                state.installs, flags});
}

SinkState SinkStateCell::Load() const {
  const auto words = words_.Load();
  SinkState state;
  state.version = Version{{words[0], words[1]}, EpochId(words[2])};
  state.installs = words[3];
  state.quiesced = (words[4] & 1) != 0;
  state.dirty = (words[4] & 2) != 0;
  return state;
}

// ---- binding ------------------------------------------------------------------------------------

struct MemorySink::Bank {
  Manifest manifest;
  RowMemory memory;
  std::unordered_map<std::string_view, size_t> index;  // row numbers by name
};

MemorySink::MemorySink(SinkCaps caps) : caps_(caps) {}
MemorySink::~MemorySink() = default;

StatusOr<std::unique_ptr<MemorySink>> MemorySink::Expecting(std::vector<Row> rows, SinkCaps caps) {
  PC_ASSIGN_OR_RETURN(Manifest expected, Manifest::Make(std::move(rows)));
  auto sink = std::make_unique<MemorySink>(caps);
  sink->expected_ = std::move(expected);
  return sink;
}

namespace {

std::string TypeToString(const Row& row) {
  return std::string(DtypeName(row.dtype)) + " " + ShapeToString(row.shape);
}

}  // namespace

Status MemorySink::CheckExpected(const Manifest& manifest) const {
  if (!expected_ || expected_->digest() == manifest.digest()) return OkStatus();
  std::unordered_map<std::string_view, const Row*> missing;
  for (const Row& row : expected_->rows()) missing.emplace(row.name, &row);
  std::vector<std::string> differences;
  for (const Row& row : manifest.rows()) {
    const auto found = missing.find(row.name);
    if (found == missing.end()) {
      differences.push_back("tensor \"" + row.name + "\": the trainer sends " + TypeToString(row) +
                            ", this worker has no such tensor");
      continue;
    }
    const Row& expected = *found->second;
    missing.erase(found);
    if (expected.dtype != row.dtype || expected.shape != row.shape) {
      differences.push_back("tensor \"" + row.name + "\": the trainer sends " + TypeToString(row) +
                            ", this worker expects " + TypeToString(expected));
    }
  }
  for (const Row& row : expected_->rows()) {
    if (!missing.contains(row.name)) continue;
    differences.push_back("tensor \"" + row.name + "\": this worker expects " + TypeToString(row) +
                          ", the trainer does not send it");
  }
  if (differences.empty()) return OkStatus();
  // Two, because a renamed tensor shows as one too many and one missing.
  std::string message = differences.front();
  if (differences.size() > 1) message += "; " + differences.back();
  if (differences.size() > 2) {
    message += "; and " + std::to_string(differences.size() - 2) + " more";
  }
  return InvalidArgument(std::move(message));
}

// Banks of the same manifest are used again. What serves comes last, so that bank 0 may be written;
// in place it is the very bank to write.
StatusOr<std::vector<MemorySink::BankPtr>> MemorySink::MakeBanks(const Manifest& manifest,
                                                                 InstallMode mode) const {
  const size_t count = mode == InstallMode::kStaged ? 2 : 1;
  const auto fits = [&](const BankPtr& bank) {
    return bank != nullptr && bank->manifest.digest() == manifest.digest();
  };
  std::vector<BankPtr> banks;
  if (fits(serving_)) banks.push_back(serving_);
  for (const BankPtr& bank : banks_) {
    if (banks.size() < count && bank != serving_ && fits(bank)) banks.push_back(bank);
  }
  while (banks.size() < count) {
    const std::string purpose = std::to_string(count) + (count == 1 ? " copy" : " copies") +
                                " of the weights (" + std::string(InstallModeName(mode)) +
                                "), one of them";
    PC_ASSIGN_OR_RETURN(RowMemory memory, RowMemory::Allocate(manifest, purpose, allocator_));
    auto bank = std::make_shared<Bank>(Bank{manifest, std::move(memory), {}});
    for (const Row& row : bank->manifest.rows()) bank->index.emplace(row.name, bank->index.size());
    banks.push_back(std::move(bank));
  }
  std::reverse(banks.begin(), banks.end());
  return banks;
}

StatusOr<Binding> MemorySink::Bind(const Manifest& manifest, InstallMode mode) {
  if (mode == InstallMode::kStaged ? !caps_.staged : !caps_.in_place) {
    return Unimplemented("this sink does not install " + std::string(InstallModeName(mode)));
  }
  PC_RETURN_IF_ERROR(CheckExpected(manifest));
  const std::lock_guard lock(mutex_);
  PC_ASSIGN_OR_RETURN(banks_, MakeBanks(manifest, mode));
  mode_ = mode;
  Binding binding;
  for (const BankPtr& bank : banks_) {
    std::vector<Target>& targets = binding.banks.emplace_back();
    targets.reserve(manifest.size());
    for (size_t k = 0; k < manifest.size(); ++k) {
      const std::span<std::byte> bytes = bank->memory.row(k);
      targets.push_back(Target{.kind = Target::Kind::kMemory,
                               .row = static_cast<uint32_t>(k),
                               .offset = 0,
                               .bytes = bytes.size(),
                               .memory = bytes.data()});
    }
  }
  return binding;
}

// ---- an epoch -----------------------------------------------------------------------------------

Status MemorySink::Misused(Status status) {
  const std::lock_guard lock(mutex_);
  if (misuse_.ok()) misuse_ = status;
  return status;
}

void MemorySink::Quiesce(const EpochInfo& epoch, Done done) {
  if (epoch.install != InstallMode::kInPlace) {
    return done(Misused(FailedPrecondition("quiesce for epoch " + ToString(epoch.version) +
                                           ", which is not installed in place")));
  }
  ++quiesce_count_;
  SinkState state = state_.Load();
  state.quiesced = state.dirty = true;
  state_.Store(state);
  done(OkStatus());
}

void MemorySink::Resume(const EpochInfo& epoch, EpochOutcome outcome) {
  SinkState state = state_.Load();
  if (outcome == EpochOutcome::kCommitted) {
    if (state.version != epoch.version || state.dirty) {
      (void)Misused(FailedPrecondition("resume after the commit of " + ToString(epoch.version) +
                                       ", but " + ToString(state.version) + " is installed" +
                                       (state.dirty ? " and was written over" : "")));
      return;
    }
  } else if (!state.quiesced) {
    (void)Misused(FailedPrecondition("resume after the abort of " + ToString(epoch.version) +
                                     " without quiesce"));
    return;
  }
  ++resume_count_;
  state.quiesced = state.dirty = false;
  state_.Store(state);
}

Status MemorySink::Load(const EpochInfo&, const TensorGroup&) {
  return Misused(FailedPrecondition("a memory sink binds no callbacks"));
}

// A version may come again in another bank: what was installed did not verify, and was caught up.
bool MemorySink::Serves(const EpochInfo& epoch) const {
  const SinkState state = state_.Load();
  if (epoch.version != state.version || state.dirty || state.version.IsZero()) return false;
  const std::lock_guard lock(mutex_);
  const bool is_other = epoch.install == InstallMode::kStaged && epoch.bank < banks_.size() &&
                        banks_[epoch.bank] != serving_;
  return !is_other;
}

Status MemorySink::CheckInstall(const EpochInfo& epoch, bool* repeated) const {
  const SinkState state = state_.Load();
  *repeated = Serves(epoch);
  if (*repeated) return OkStatus();
  const std::string what = "install of " + ToString(epoch.version);
  if (epoch.version < state.version) {
    return Stale(what + ", but " + ToString(state.version) + " serves already");
  }
  const std::lock_guard lock(mutex_);
  if (mode_ != epoch.install) {
    return FailedPrecondition(what + " " + std::string(InstallModeName(epoch.install)) +
                              ", but memory is bound " +
                              (mode_ ? std::string(InstallModeName(*mode_)) : "not at all"));
  }
  if (epoch.bank >= banks_.size()) {
    return FailedPrecondition(what + " from bank " + std::to_string(epoch.bank) +
                              ", but there are " + std::to_string(banks_.size()));
  }
  if (epoch.install == InstallMode::kInPlace && !state.quiesced) {
    return FailedPrecondition(what + ", whose memory was written without quiesce");
  }
  if (epoch.install == InstallMode::kStaged && banks_[epoch.bank] == serving_) {
    return FailedPrecondition(what + " from bank " + std::to_string(epoch.bank) +
                              ", which was serving " + ToString(state.version) +
                              " while it was written");
  }
  return OkStatus();
}

void MemorySink::Install(const EpochInfo& epoch, Done done) {
  bool repeated = false;
  Status status = CheckInstall(epoch, &repeated);
  if (!status.ok() && status.code() != StatusCode::kStale) status = Misused(std::move(status));
  if (repeated || !status.ok()) return done(std::move(status));
  {
    const std::lock_guard lock(mutex_);
    serving_ = banks_[epoch.bank];
    SinkState state = state_.Load();
    state.version = epoch.version;
    ++state.installs;
    state.dirty = false;
    // A staged install also heals what an aborted epoch in place left quiesced.
    if (epoch.install == InstallMode::kStaged) state.quiesced = false;
    state_.Store(state);
  }
  done(OkStatus());
}

void MemorySink::Discard(const EpochInfo& epoch) {
  if (Serves(epoch)) {
    (void)Misused(FailedPrecondition("discard of " + ToString(epoch.version) + ", which serves"));
    return;
  }
  // Staged bytes are simply written again. In place, Quiesce marked the memory already.
  ++discard_count_;
}

// ---- reading ------------------------------------------------------------------------------------

StatusOr<MemorySink::BankPtr> MemorySink::Readable() const {
  const std::lock_guard lock(mutex_);
  const SinkState state = state_.Load();
  if (serving_ == nullptr) return FailedPrecondition("no weights are installed");
  // Between a good Install and Resume they are at rest, and verified.
  if (state.dirty) {
    return FailedPrecondition("the weights of " + ToString(state.version) +
                              " are out of service: they may be half-written");
  }
  return serving_;
}

Status MemorySink::CheckUnchanged(const SinkState& before) const {
  const SinkState after = state_.Load();
  if (after == before) return OkStatus();
  return FailedPrecondition("the weights of " + ToString(before.version) +
                            " were replaced while they were read; read them between epochs");
}

// What is not the host's is fetched in parts.
Status MemorySink::HashRow(const Bank& bank, size_t row, ContentHash* hash) const {
  const std::span<std::byte> bytes = bank.memory.row(row);
  if (allocator_ == nullptr) {
    hash->Add(row, 0, bytes);
    return OkStatus();
  }
  constexpr size_t kPart = size_t{16} << 20;
  std::vector<std::byte> part(std::min(kPart, bytes.size()));
  for (size_t at = 0; at < bytes.size(); at += kPart) {
    const size_t count = std::min(kPart, bytes.size() - at);
    PC_RETURN_IF_ERROR(allocator_->Copy(bytes.data() + at, part.data(), count));
    hash->Add(row, at, {part.data(), count});
  }
  return OkStatus();
}

StatusOr<Digest> MemorySink::ServingDigest() const {
  const SinkState before = state_.Load();
  PC_ASSIGN_OR_RETURN(const BankPtr bank, Readable());
  ContentHash hash;
  for (size_t k = 0; k < bank->memory.size(); ++k) PC_RETURN_IF_ERROR(HashRow(*bank, k, &hash));
  PC_RETURN_IF_ERROR(CheckUnchanged(before));
  return hash.digest();
}

StatusOr<std::vector<std::byte>> MemorySink::ReadRow(std::string_view name) const {
  const SinkState before = state_.Load();
  PC_ASSIGN_OR_RETURN(const BankPtr bank, Readable());
  const auto found = bank->index.find(name);
  if (found == bank->index.end()) {
    return NotFound("no tensor \"" + std::string(name) + "\" is installed");
  }
  const std::span<const std::byte> bytes = bank->memory.row(found->second);
  std::vector<std::byte> copy(bytes.size());
  Allocator* const memory = allocator_ != nullptr ? allocator_ : HostAllocator();
  PC_RETURN_IF_ERROR(memory->Copy(bytes.data(), copy.data(), bytes.size()));
  PC_RETURN_IF_ERROR(CheckUnchanged(before));
  return copy;
}

uint64_t MemorySink::held_bytes() const {
  const std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const BankPtr& bank : banks_) bytes += bank->memory.mapped_bytes();
  const bool bound = std::find(banks_.begin(), banks_.end(), serving_) != banks_.end();
  if (serving_ != nullptr && !bound) bytes += serving_->memory.mapped_bytes();
  return bytes;
}

Status MemorySink::misuse() const {
  const std::lock_guard lock(mutex_);
  return misuse_;
}

}  // namespace packcast
