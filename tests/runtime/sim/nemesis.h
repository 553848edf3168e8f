#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

// Does harm, from outside.
class Nemesis {
 public:
  explicit Nemesis(World* world) : world_(world) {}
  void RunFor(Duration duration);
  // All works again: no fault is left, and each host has a process.
  void MakePeace();
  // Waits for what is left of processes that others have taken the place of.
  void Join();

 private:
  void Strike();
  void Note(const std::string& what);
  std::string AnyHost();
  std::string OtherHost(const std::string& than);
  // A fault that ends after a while, of which MakePeace needs to know nothing.
  void For(Duration duration, std::function<void()> end);
  void Kill(const std::string& host);
  void Restart(const std::string& host);
  void Replace(const std::string& host);
  void Freeze(const std::string& host, Duration duration);
  void Thaw(const std::shared_ptr<Life>& life);

  World* const world_;
  std::vector<std::shared_ptr<Life>> past_;
};

}  // namespace packcast::rtsim
