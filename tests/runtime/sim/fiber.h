#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace packcast::rtsim {

// Something that runs like a thread, but only when it is switched to: with a stack, thread-local
// variables and exceptions under way of its own. All fibers share one real thread.
class Fiber {
 public:
  // The real thread itself, as it comes here.
  Fiber();
  // `body` must end by switching away for ever (SwitchFrom with `is_last`).
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Goes on with this one, until somebody switches to `from` again. `is_last`: nobody will.
  void SwitchFrom(Fiber* from, bool is_last = false);

 private:
  static void Enter(unsigned low, unsigned high);
  void SaveThread();
  void LoadThread();
  void Arrive();

  ucontext_t context_;
  std::function<void()> body_;
  std::byte* stack_ = nullptr;  // null: the real thread's own
  size_t stack_bytes_ = 0;
  // For AddressSanitizer.
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  size_t bottom_bytes_ = 0;
  // What a thread has of its own, while another fiber runs.
  std::vector<std::byte> thread_locals_;
  std::byte exceptions_[16] = {};
};

}  // namespace packcast::rtsim
