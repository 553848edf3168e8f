// A program with actors of its own, to be called from scripts and other processes:
//   bazel run //examples:scores -- --bind=tcp://127.0.0.1:5556
//   python3 examples/actors.py --endpoint tcp://127.0.0.1:5556 call scores add '"ada"' 3
#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

#include <CLI/CLI.hpp>

#include "examples/flag_checks.h"
#include "runtime/actor/new_actor.h"
#include "runtime/actor/runtime.h"

namespace packcast::examples {
namespace {

class Scores {
 public:
  int64_t Add(const std::string& player, int64_t points) { return total_[player] += points; }
  StatusOr<int64_t> Get(const std::string& player) const {
    const auto found = total_.find(player);
    if (found == total_.end()) return NotFound(player + " has not played");
    return found->second;
  }
  std::map<std::string, int64_t> All() const { return total_; }
  void Crash(Context& context) { context.Fail(Internal("told to crash")); }

  static void Methods(MethodTable<Scores>& table) {
    table.Add("add", &Scores::Add, {.about = "adds points to a player's, and returns the sum"})
        .Add("get", &Scores::Get, {.about = "a player's points"})
        .Add("all", &Scores::All, {.about = "everybody's points"})
        .Add("crash", &Scores::Crash, {.about = "ends this life; the next one starts at nought"});
  }

 private:
  std::map<std::string, int64_t> total_;
};

int Run(const std::string& name, const std::string& bind) {
  // Before there are threads, so that none of them takes the signals.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  const auto runtime = Runtime::Start({.name = name, .bind = bind});
  if (!runtime.ok()) {
    std::fprintf(stderr, "%s\n", runtime.status().message().c_str());
    return 1;
  }
  const auto scores = NewActor<Scores>(**runtime).Name("scores").MaxRestarts(3).Spawn();
  if (!scores.ok()) {
    std::fprintf(stderr, "%s\n", scores.status().message().c_str());
    return 1;
  }
  std::printf("listening at %s\n", (*runtime)->endpoint().c_str());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  return 0;
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  CLI::App app("An actor that keeps scores.");
  std::string name = "scores/0";
  std::string bind = "tcp://127.0.0.1:*";
  app.add_option("--name", name, "the name of this process in the cluster")->capture_default_str();
  app.add_option("--bind", bind, "where to listen; * picks a free port")
      ->check(packcast::examples::WrongPort)
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return packcast::examples::Run(name, bind);
}
