#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "actors/coordinator_link.h"
#include "actors/member_shell.h"
#include "runtime/actor/runtime.h"

namespace packcast {

// What the public handles of trainer and worker share: the running actor and its link to the
// coordinator. Thread-safe.
class MemberHandle {
 public:
  MemberHandle(Runtime* runtime, std::shared_ptr<MemberShell::Shared> shared)
      : runtime_(runtime), shared_(std::move(shared)) {}
  ~MemberHandle() { Stop(); }
  MemberHandle(const MemberHandle&) = delete;
  MemberHandle& operator=(const MemberHandle&) = delete;

  // Runs the actor and waits until a coordinator was found. Before anything else.
  Status Start(const std::string& name, std::unique_ptr<MemberShell> shell,
               const std::string& coordinator, Duration timeout);
  // Leaves the cluster. Waits for a callback that runs, unless it is that callback which calls.
  void Stop();
  // OK, or why the member is out for good: kCancelled after an orderly end (Stop, the cluster's
  // shutdown), else what is wrong.
  Status Standing() const;
  MemberShell::Shared& shared() { return *shared_; }
  const std::shared_ptr<MemberShell::Shared>& shared_ptr() const { return shared_; }

 private:
  Runtime* const runtime_;
  const std::shared_ptr<MemberShell::Shared> shared_;
  std::mutex mutex_;  // guards what follows
  ActorRef ref_;
  std::unique_ptr<CoordinatorLink> link_;
};

}  // namespace packcast
