#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "protocol/status.h"
#include "runtime/actor/actor.h"

namespace packcast::internal {

class Cell;

// One thing that waits in an actor's mailbox: it is run once, or dropped with the reason why not.
// Made from any movable `F` with
//   void Run(Actor& actor, Context& context);   may throw: the cell logs it
//   void Drop(const Status& why);               answers who waits, and must not throw
// and, if it is of interest to the actor's next life as well as to the present one,
//   static constexpr bool kOutlivesLife = true;
// Move-only. What fits into 64 bytes and moves without throwing needs no allocation.
class Task {
 public:
  Task() = default;
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, Task>>>
  explicit Task(F work) : ops_(&OpsFor<F>::kOps) {
    OpsFor<F>::Make(room_, std::move(work));
  }
  ~Task() { Reset(); }
  Task(Task&& other) noexcept { TakeFrom(&other); }
  Task& operator=(Task&& other) noexcept {
    if (this == &other) return *this;
    Reset();
    TakeFrom(&other);
    return *this;
  }

  // The actor that sent it, if one of this process did.
  const std::shared_ptr<Cell>& sender() const { return sender_; }
  void set_sender(std::shared_ptr<Cell> sender) { sender_ = std::move(sender); }

  // False once it has run, was dropped or moved away.
  bool valid() const { return ops_ != nullptr; }
  bool outlives_life() const { return ops_->outlives_life; }
  void Run(Actor& actor, Context& context) { ops_->run(room_, actor, context); }
  void Drop(const Status& why) { ops_->drop(room_, why); }
  // Destroys what it holds.
  void Reset() {
    if (ops_ != nullptr) ops_->destroy(room_);
    ops_ = nullptr;
    sender_.reset();
  }

 private:
  static constexpr size_t kRoom = 64;
  struct Ops {
    void (*run)(void* room, Actor& actor, Context& context);
    void (*drop)(void* room, const Status& why);
    void (*move)(void* from, void* to);  // and destroys what is left at `from`
    void (*destroy)(void* room);
    bool outlives_life;
  };

  template <class F>
  struct OpsFor {
    static constexpr bool kFits = sizeof(F) <= kRoom && alignof(F) <= alignof(std::max_align_t) &&
                                  std::is_nothrow_move_constructible_v<F>;

    static void Make(void* room, F&& work) {
      if constexpr (kFits) {
        new (room) F(std::move(work));
      } else {
        *static_cast<F**>(room) = new F(std::move(work));
      }
    }
    static F& Get(void* room) {
      if constexpr (kFits) {
        return *std::launder(static_cast<F*>(room));
      } else {
        return **static_cast<F**>(room);
      }
    }
    static void Run(void* room, Actor& actor, Context& context) { Get(room).Run(actor, context); }
    static void Drop(void* room, const Status& why) { Get(room).Drop(why); }
    static void Move(void* from, void* to) {
      if constexpr (kFits) {
        new (to) F(std::move(Get(from)));
        Get(from).~F();
      } else {
        *static_cast<F**>(to) = *static_cast<F**>(from);
      }
    }
    static void Destroy(void* room) {
      if constexpr (kFits) {
        Get(room).~F();
      } else {
        delete &Get(room);
      }
    }
    static constexpr bool kOutlivesLife = requires { requires F::kOutlivesLife; };
    static constexpr Ops kOps = {&Run, &Drop, &Move, &Destroy, kOutlivesLife};
  };

  void TakeFrom(Task* other) {
    ops_ = std::exchange(other->ops_, nullptr);
    if (ops_ != nullptr) ops_->move(other->room_, room_);
    sender_ = std::move(other->sender_);
  }

  const Ops* ops_ = nullptr;
  std::shared_ptr<Cell> sender_;
  alignas(std::max_align_t) std::byte room_[kRoom];
};

}  // namespace packcast::internal
