// Uses the installed library: an actor here, and one in a child process.
#include <cstdio>
#include <string>

#include "actors/packcast.h"
#include "runtime/testing/stage.h"

namespace {

class Counter {
 public:
  explicit Counter(int64_t first) : count_(first) {}
  int64_t Add(int64_t n) { return count_ += n; }
  static void Methods(packcast::MethodTable<Counter>& table) { table.Add("add", &Counter::Add); }

 private:
  int64_t count_;
};

int Fail(const packcast::Status& status) {
  std::fprintf(stderr, "consumer: %s\n", status.message().c_str());
  return 1;
}

}  // namespace

int main() {
  using packcast::Seconds;
  packcast::ActorClasses classes;
  classes.Add<Counter, int64_t>("Counter");
  if (const auto code = packcast::RunIfChild(classes)) return *code;

  packcast::Stage stage(std::make_unique<packcast::Hosted<Counter>>(int64_t{5}));
  const auto tested = stage.ref<Counter>().Call(&Counter::Add, 1);
  if (stage.RunAll() != 1 || tested.Get(Seconds(0)).value() != 6) return 1;

  const auto runtime = packcast::Runtime::Start({.name = "consumer"});
  if (!runtime.ok()) return Fail(runtime.status());
  const auto here = packcast::NewActor<Counter>(**runtime, int64_t{1}).Spawn();
  if (!here.ok()) return Fail(here.status());
  const auto process = packcast::Process::Start(**runtime, {.name = "child"});
  if (!process.ok()) return Fail(process.status());
  const auto there = (*process)->Spawn<Counter>("Counter", "counter", 10);
  if (!there.ok()) return Fail(there.status());
  const auto near_sum = here->Call(&Counter::Add, 2).Get(Seconds(10));
  const auto far_sum = there->Call(&Counter::Add, 2).Get(Seconds(10));
  if (!near_sum.ok()) return Fail(near_sum.status());
  if (!far_sum.ok()) return Fail(far_sum.status());
  std::printf("%lld %lld\n", static_cast<long long>(*near_sum), static_cast<long long>(*far_sum));
  return *near_sum == 3 && *far_sum == 12 ? 0 : 1;
}
