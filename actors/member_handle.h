#pragma once

#include <memory>
#include <string>
#include <utility>

#include "actors/coordinator_link.h"
#include "actors/member_shell.h"
#include "runtime/actor/runtime.h"

namespace packcast {

// What the public handles of trainer and worker share: the running actor and its link to the
// coordinator. Thread-safe where its parts are.
class MemberHandle {
 public:
  MemberHandle(Runtime* runtime, std::shared_ptr<MemberShell::Shared> shared)
      : runtime_(runtime), shared_(std::move(shared)) {}
  ~MemberHandle() { Stop(); }
  MemberHandle(const MemberHandle&) = delete;
  MemberHandle& operator=(const MemberHandle&) = delete;

  // Runs the actor and waits until a coordinator was found.
  Status Start(const std::string& name, std::unique_ptr<MemberShell> shell,
               const std::string& coordinator, Duration timeout);
  void Stop();
  // OK, or why the member is out for good.
  Status Standing() const;
  MemberShell::Shared& shared() { return *shared_; }
  const std::shared_ptr<MemberShell::Shared>& shared_ptr() const { return shared_; }

 private:
  Runtime* const runtime_;
  const std::shared_ptr<MemberShell::Shared> shared_;
  ActorRef ref_;
  std::unique_ptr<CoordinatorLink> link_;
};

}  // namespace packcast
