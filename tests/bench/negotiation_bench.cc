// What an epoch costs the coordinator: its machine with up to thousands of members, whose machines
// answer at once. Counted is its CPU time for decoding what they send, stepping, checking its
// invariants and encoding what it sends, with one subscriber to its events; not what they do, and
// no sockets. A table on stdout.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "CLI/CLI.hpp"
#include "actors/coordinator_machine.h"
#include "actors/shared_bodies.h"
#include "actors/trainer_machine.h"
#include "protocol/codec.h"
#include "protocol/frame.h"

namespace packcast {
namespace {

constexpr double kBarMs = 200;  // an epoch of 1,000 workers

double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// A message as it travels.
struct Frames {
  std::string envelope;
  std::shared_ptr<const std::string> body;
};

std::string ToEnvelope(const MemberId& from, const MemberId& to, std::string_view method) {
  Envelope envelope;
  envelope.from = {from.name, from.incarnation};
  envelope.to = {to.name, to.incarnation};
  envelope.method = std::string(method);
  return EncodeEnvelope(envelope);
}

// A rank that does at once whatever its machine asks.
class Member {
 public:
  Member(const MemberConfig& config, std::shared_ptr<const Manifest> manifest)
      : id_(config.self), manifest_(std::move(manifest)), machine_(MemberMachine(config)) {
    if (config.role == Role::kTrainer) machine_ = TrainerMachine(config);
  }

  void Join() { On(MemberEvent(CoordinatorUp{})); }
  void Sync(uint64_t label) {
    On(UserSync{label, SyncKind::kFull, manifest_, false, std::nullopt});
  }
  void Hear(CoordinatorMessage message) { On(MemberEvent(std::move(message))); }
  std::vector<MemberMessage> Take() { return std::exchange(sent_, {}); }
  uint64_t synced() const { return synced_; }

 private:
  void On(const TrainerEvent& event) {
    std::deque<TrainerEvent> events{event};
    for (; !events.empty(); events.pop_front()) {
      for (MemberEffect& effect : Step(events.front())) {
        if (auto answer = Carry(&effect)) events.push_back(std::move(*answer));
      }
    }
  }
  MemberEffects Step(const TrainerEvent& event) {
    if (auto* trainer = std::get_if<TrainerMachine>(&machine_)) return trainer->On(event, Time());
    return std::get<MemberMachine>(machine_).On(std::get<MemberEvent>(event), Time());
  }
  std::optional<MemberEvent> Carry(MemberEffect* effect) {
    if (auto* send = std::get_if<SendToCoordinator>(effect)) {
      sent_.push_back(std::move(send->message));
    } else if (const auto* prepare = std::get_if<PrepareAttempt>(effect)) {
      return MemberEvent(Prepared(*prepare));
    } else if (const auto* join = std::get_if<JoinGenerations>(effect)) {
      return MemberEvent(GenerationsReady{join->key, OkStatus()});
    } else if (const auto* quiesce = std::get_if<QuiesceEngine>(effect)) {
      return MemberEvent(QuiesceDone{quiesce->key, OkStatus()});
    } else if (const auto* stream = std::get_if<StartStream>(effect)) {
      const std::vector<Phase> phases = {{"transfer", 1.0}, {"wait", 0.1}, {"unpack", 0.2}};
      return MemberEvent(
          StreamDone{stream->key, OkStatus(), {3, 4}, manifest_->total_bytes(), phases, ""});
    } else if (const auto* install = std::get_if<InstallVersion>(effect)) {
      return MemberEvent(InstallDone{install->key, OkStatus(), std::nullopt, 0.001});
    } else if (const auto* finished = std::get_if<SyncFinished>(effect)) {
      if (!finished->status.ok()) {
        std::cerr << "a sync failed: " << finished->status << "\n";
        std::exit(1);
      }
      ++synced_;
    }
    return std::nullopt;
  }
  PrepareDone Prepared(const PrepareAttempt& prepare) const {
    PrepareDone done{prepare.key, OkStatus(), {1, 2}, {}, ""};
    for (const Flow& flow : prepare.contract->flows) {
      const auto rank = flow.RankOf(id_);
      if (!rank || !flow.Feeds(*rank) || prepare.generations[flow.id.value].reuse) continue;
      done.rendezvous.push_back({flow.id, flow.transport, Bytes(64), *rank});
    }
    return done;
  }

  const MemberId id_;
  const std::shared_ptr<const Manifest> manifest_;
  std::variant<MemberMachine, TrainerMachine> machine_;
  std::vector<MemberMessage> sent_;
  uint64_t synced_ = 0;
};

// What a coordinator has spent and moved.
struct Cost {
  double decoding = 0;  // seconds
  double stepping = 0;
  double encoding = 0;
  uint64_t received = 0;
  uint64_t sent = 0;
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;

  double seconds() const { return decoding + stepping + encoding; }
};

class Cluster {
 public:
  Cluster(size_t workers, InstallMode install, size_t tensors) : machine_(Config(install)) {
    std::vector<Row> rows;
    for (size_t k = 0; k < tensors; ++k) {
      rows.push_back(
          {"model.layers." + std::to_string(k) + ".weight", Dtype::kBF16, {4096, 4096}, "", 0, {}});
    }
    const auto manifest = std::make_shared<const Manifest>(Manifest::Make(std::move(rows)).value());
    Add(Role::kTrainer, 0, manifest);
    for (size_t k = 0; k < workers; ++k) Add(Role::kWorker, k, manifest);
    for (auto& [id, member] : members_) member->Join();
    Settle();
  }

  // One epoch; what it cost.
  Cost Epoch() {
    cost_ = {};
    trainer_->Sync(++label_);
    Settle();
    if (trainer_->synced() != label_) {
      std::cerr << "epoch " << label_ << " did not end\n";
      std::exit(1);
    }
    return cost_;
  }
  // So that the next epoch agrees on something new.
  void ChangeLimits() {
    Step(ControlCall{++token_, "limits", ValueMap{{"buffer_bytes", (1 + token_ % 2) << 28}}});
  }

 private:
  static CoordinatorConfig Config(InstallMode install) {
    CoordinatorConfig config;
    config.term = {1, 7};
    config.policy.install = install;
    return config;
  }

  void Add(Role role, size_t number, const std::shared_ptr<const Manifest>& manifest) {
    const bool trainer = role == Role::kTrainer;
    MemberConfig config;
    config.self = {(trainer ? "trainer-" : "worker-") + std::to_string(number),
                   Incarnation(0x123456789abcdefu + number)};
    config.role = role;
    config.unit = trainer ? "trainer" : "replica-" + std::to_string(number);
    config.offer.transports = {{.kind = "shm@host-1234567890"}, {.kind = "zmq"}};
    config.offer.memory_free = uint64_t{64} << 30;
    if (!trainer) config.offer.install_modes = {InstallMode::kStaged, InstallMode::kInPlace};
    const MemberId id = config.self;
    members_[id] = std::make_unique<Member>(config, manifest);
    if (trainer) trainer_ = members_[id].get();
  }

  // Until nobody has anything to say.
  void Settle() {
    for (bool any = true; any;) {
      any = false;
      for (auto& [id, member] : members_) {
        for (const MemberMessage& message : member->Take()) {
          any = true;
          Receive(id,
                  {ToEnvelope(id, self_, MessageName(message)),
                   std::make_shared<std::string>(Encode(MessageBody(message)))},
                  MessageName(message));
        }
      }
    }
  }

  void Receive(const MemberId& from, const Frames& frames, std::string_view name) {
    ++cost_.received;
    cost_.bytes_received += frames.envelope.size() + frames.body->size();
    const double began = CpuSeconds();
    const Envelope envelope = DecodeEnvelope(frames.envelope).value();
    FromMember event{from, DecodeMemberMessage(name, Decode(*frames.body).value()).value()};
    cost_.decoding += CpuSeconds() - began;
    Step(event);
  }
  void Step(const CoordinatorEvent& event) {
    now_ += Microseconds(10);
    double began = CpuSeconds();
    const CoordinatorEffects effects = machine_.On(event, now_);
    if (const Status status = machine_.CheckInvariants(); !status.ok()) std::abort();
    cost_.stepping += CpuSeconds() - began;
    std::vector<std::pair<MemberId, Frames>> out;
    std::vector<std::string_view> names;
    SharedBodies bodies;
    for (const CoordinatorEffect& effect : effects) {
      began = CpuSeconds();
      if (const auto* send = std::get_if<SendToMember>(&effect)) {
        const std::string_view name = MessageName(*send->message);
        out.emplace_back(send->to, Frames{ToEnvelope(self_, send->to, name),
                                          bodies.Of(send->message).value().bytes()});
        names.push_back(name);
      } else if (const auto* publish = std::get_if<PublishEvent>(&effect)) {
        cost_.bytes_sent += Encode(publish->event).size();
      }
      cost_.encoding += CpuSeconds() - began;
    }
    Deliver(out, names);
  }
  void Deliver(const std::vector<std::pair<MemberId, Frames>>& out,
               const std::vector<std::string_view>& names) {
    for (size_t k = 0; k < out.size(); ++k) {
      const auto& [to, frames] = out[k];
      ++cost_.sent;
      cost_.bytes_sent += frames.envelope.size() + frames.body->size();
      members_[to]->Hear(DecodeCoordinatorMessage(names[k], Decode(*frames.body).value()).value());
    }
  }

  const MemberId self_{"coordinator", Incarnation(0xfedcba987654321u)};
  CoordinatorMachine machine_;
  std::map<MemberId, std::unique_ptr<Member>> members_;
  Member* trainer_ = nullptr;
  Cost cost_;
  Time now_{};
  uint64_t label_ = 0;
  uint64_t token_ = 0;
};

// The one in the middle, and the dearest.
void PrintRow(size_t workers, std::string_view what, std::vector<Cost> costs) {
  std::sort(costs.begin(), costs.end(),
            [](const Cost& a, const Cost& b) { return a.seconds() < b.seconds(); });
  const Cost& median = costs[costs.size() / 2];
  const double kib = static_cast<double>(median.bytes_received + median.bytes_sent) / 1024;
  std::printf("%7zu  %-26.*s %9.3f %9.3f %9.3f %9.3f %9.3f %9llu %9llu %8.1f\n", workers,
              static_cast<int>(what.size()), what.data(), median.seconds() * 1e3,
              costs.back().seconds() * 1e3, median.decoding * 1e3, median.stepping * 1e3,
              median.encoding * 1e3, static_cast<unsigned long long>(median.received),
              static_cast<unsigned long long>(median.sent), kib / static_cast<double>(workers + 1));
  std::fflush(stdout);
}

void Measure(size_t workers, InstallMode install, size_t tensors, size_t epochs) {
  const std::string mode(InstallModeName(install));
  Cluster cluster(workers, install, tensors);
  PrintRow(workers, mode + ", first", {cluster.Epoch()});
  std::vector<Cost> steady;
  for (size_t k = 0; k < epochs; ++k) steady.push_back(cluster.Epoch());
  PrintRow(workers, mode + ", steady", steady);
  std::vector<Cost> changed;
  for (size_t k = 0; k < std::max<size_t>(epochs / 5, 1); ++k) {
    cluster.ChangeLimits();
    changed.push_back(cluster.Epoch());
  }
  PrintRow(workers, mode + ", limits changed", changed);
}

int Main(int argc, char** argv) {
  std::vector<size_t> workers = {8, 100, 1000};
  size_t epochs = 20;
  size_t tensors = 300;
  CLI::App app(
      "An epoch's CPU time at the coordinator: \"first\" sends the rows and makes generations, "
      "\"steady\" names the last contract, \"limits changed\" makes another, rows cached.");
  app.add_option("--workers", workers, "how many, one table for each")->delimiter(',');
  app.add_option("--epochs", epochs, "steady ones that are measured");
  app.add_option("--tensors", tensors, "rows of the manifest");
  CLI11_PARSE(app, argc, argv);
  std::printf("CPU in ms, of the epoch in the middle and the dearest\n");
  std::printf(
      "workers  epoch                        p50       max    decode      step    encode"
      "  received      sent KiB/rank\n");
  for (const size_t count : workers) {
    for (const InstallMode install : {InstallMode::kStaged, InstallMode::kInPlace}) {
      Measure(count, install, tensors, epochs);
    }
  }
  std::printf("bar: %.0f ms for 1000 workers, manifest cached\n", kBarMs);
  return 0;
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) { return packcast::Main(argc, argv); }
