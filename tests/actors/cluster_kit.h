#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "actors/coordinator.h"
#include "actors/sources/changing_source.h"
#include "actors/sources/generated_source.h"
#include "actors/trainer.h"
#include "actors/worker.h"
#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace packcast::testing {

// A cluster in one process: a runtime for each role, as in a process of its own.
class ClusterTest : public ::testing::Test {
 protected:
  ClusterTest() { StartCoordinator({}); }

  void StartCoordinator(CoordinatorOptions options) {
    coordinator_.reset();
    coordinator_runtime_ = StartRuntime("coordinator", Patient());
    options.on_event = [this](const Value& event) { events_.Add(event); };
    coordinator_ = Coordinator::Start(coordinator_runtime_.get(), options).value();
  }
  const std::string& address() const { return coordinator_runtime_->endpoint(); }

  TrainerOptions TrainerNamed(const std::string& name) const {
    TrainerOptions options;
    options.name = name;
    options.coordinator = address();
    return options;
  }
  WorkerOptions WorkerNamed(const std::string& name) const {
    WorkerOptions options;
    options.name = name;
    options.replica = "replica of " + name;
    options.coordinator = address();
    return options;
  }

  // What a script would call.
  StatusOr<Value> Control(const std::string& method, ValueMap arguments = {}) {
    return Call(method, std::move(arguments)).Get(kPatience);
  }
  Future<Value> Call(const std::string& method, ValueMap arguments) {
    if (script_ == nullptr) script_ = StartRuntime("script", Patient());
    const ActorRef coordinator = script_->Connect(address(), "coordinator", kPatience).value();
    return coordinator.Call(method, std::move(arguments), CallOptions{.deadline = kPatience});
  }
  // Until this one is in. Of its name's first life.
  void WaitJoined(const std::string& member) {
    events_.WaitFor([&](const Value& event) {
      return NameOf(event) == "member.joined" && *event.Find("member")->AsString() == member;
    });
  }
  // Until that many members are in, none of which has gone.
  void WaitMembers(uint64_t count) {
    const auto joined = [](const Value& event) { return NameOf(event) == "member.joined"; };
    std::set<std::string> in;  // WaitFor looks at all events again and again
    events_.WaitFor([&](const Value& event) {
      if (joined(event)) in.insert(*event.Find("member")->AsString());
      return in.size() >= count;
    });
    uint64_t members = 0;
    EXPECT_TRUE(Control("status")->Find("members")->GetUint(&members));
    EXPECT_EQ(members, count);
  }
  static std::string NameOf(const Value& event) { return *event.Find("event")->AsString(); }

  Record<Value> events_;  // the coordinator's
  std::unique_ptr<Runtime> coordinator_runtime_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Runtime> script_;
};

// Rows of 100 bytes, one a group.
inline std::vector<Row> SmallRows(size_t count) {
  std::vector<Row> rows;
  for (size_t k = 0; k < count; ++k) {
    rows.push_back({"row." + std::to_string(k), Dtype::kU8, {100}, "", 0, {}});
  }
  return rows;
}

inline std::unique_ptr<ChangingSource> SmallSource(size_t rows = 20) {
  return ChangingSource::Make(GeneratedSource::Make(SmallRows(rows), 1).value()).value();
}

// Calls Drive on a thread of its own, as an engine's loop would.
class DrivingThread {
 public:
  explicit DrivingThread(Worker* worker, std::function<void()> after_each = nullptr)
      : thread_([this, worker, after_each] {
          while (!stop_ && end_.ok()) {
            end_ = worker->Drive(Milliseconds(20));
            if (after_each) after_each();
          }
        }) {}
  ~DrivingThread() { (void)Join(true); }
  // How Drive ended by itself.
  Status WaitEnd() { return Join(false); }
  void Stop() { (void)Join(true); }

 private:
  Status Join(bool stop) {
    stop_ = stop_ || stop;
    if (thread_.joinable()) thread_.join();
    return end_;
  }

  std::atomic<bool> stop_{false};
  Status end_;  // of the thread, until it is joined
  std::thread thread_;
};

// A sink that takes all rows by callback, and keeps count of what is asked of it. Hooks run inside
// the callbacks.
class CallbackSink : public WeightSink {
 public:
  SinkCaps Caps() override { return {}; }
  StatusOr<Binding> Bind(const Manifest& manifest, InstallMode) override {
    if (on_bind) on_bind();
    std::lock_guard lock(mutex_);
    memory_.clear();
    Binding binding{{{}}};
    for (uint32_t k = 0; k < manifest.size(); ++k) {
      memory_.emplace_back(manifest.row_bytes(k));
      binding.banks[0].push_back({Target::Kind::kCallback, k, 0, manifest.row_bytes(k), nullptr});
    }
    return binding;
  }
  void Quiesce(const EpochInfo&, Done done) override { done(OkStatus()); }
  void Resume(const EpochInfo&, EpochOutcome) override {}
  Status Load(const EpochInfo&, const TensorGroup& group) override {
    if (on_load) on_load();
    std::lock_guard lock(mutex_);
    for (const SourceTensor& part : group.tensors) {
      std::copy_n(part.data, part.bytes, memory_[part.row].begin() + part.offset);
    }
    return OkStatus();
  }
  void Install(const EpochInfo& epoch, Done done) override {
    if (on_install) on_install();
    installed = epoch;
    ++installs;
    done(OkStatus());
  }
  void Discard(const EpochInfo&) override { ++discards; }

  // Any thread.
  Digest ContentDigest() const {
    std::lock_guard lock(mutex_);
    ContentHash hash;
    for (size_t k = 0; k < memory_.size(); ++k) hash.Add(k, 0, memory_[k]);
    return hash.digest();
  }

  std::function<void()> on_bind;
  std::function<void()> on_load;
  std::function<void()> on_install;
  EpochInfo installed;
  std::atomic<uint64_t> installs{0};
  std::atomic<uint64_t> discards{0};

 private:
  mutable std::mutex mutex_;  // a test that looks and the next epoch are not ordered otherwise
  std::vector<std::vector<std::byte>> memory_;
};

}  // namespace packcast::testing
