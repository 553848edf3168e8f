#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/actor/dropped.h"
#include "runtime/actor/guarded.h"

namespace packcast {

// The result of something that returns nothing but success.
struct Unit {
  friend bool operator==(const Unit&, const Unit&) = default;
};

// Runs a callback somewhere else (on the runtime's executor, say).
using CallbackRunner = std::function<void(std::function<void()>)>;

namespace internal {

// What promises and futures share. Thread-safe; resolves once.
template <class T>
class FutureState {
 public:
  using Callback = std::function<void(const StatusOr<T>&)>;

  explicit FutureState(CallbackRunner runner) : runner_(std::move(runner)) {}

  using Self = std::shared_ptr<FutureState>;
  // `self` is this one.
  bool Set(StatusOr<T> result, const Self& self) {
    Self kept;  // a callback may drop the last other handle
    std::vector<Callback> callbacks;
    std::function<void()> cancel;  // what it holds goes without the lock
    {
      std::lock_guard lock(mutex_);
      if (result_) return false;
      result_.emplace(std::move(result));
      callbacks.swap(callbacks_);
      if (!callbacks.empty()) kept = self;
      cancel.swap(cancel_);
    }
    // Without the lock, which who wakes up wants. Whoever resolves holds this object: it is there
    // even when a waiter has seen the result and gone.
    resolved_.notify_all();
    for (Callback& callback : callbacks) Run(std::move(callback));
    return true;
  }

  void Then(Callback callback, const Self& self) {
    Self kept;
    {
      std::lock_guard lock(mutex_);
      if (!result_) {
        callbacks_.push_back(std::move(callback));
        return;
      }
      kept = self;
    }
    Run(std::move(callback));
  }

  void OnCancel(std::function<void()> cancel) {
    std::lock_guard lock(mutex_);
    if (!result_) cancel_ = std::move(cancel);
  }

  void Cancel() {
    std::function<void()> cancel;
    {
      std::lock_guard lock(mutex_);
      cancel.swap(cancel_);
    }
    if (cancel) cancel();
  }

  bool ready() const {
    std::lock_guard lock(mutex_);
    return result_.has_value();
  }

  StatusOr<T> Get(Duration timeout) const {
    std::unique_lock lock(mutex_);
    const bool is_resolved =
        resolved_.wait_for(lock, ClampedWait(timeout), [this] { return result_.has_value(); });
    if (is_resolved) return *result_;
    return DeadlineExceeded("no result after " + std::to_string(ToMilliseconds(timeout)) + " ms")
        .WithOutcome(Outcome::kMaybeExecuted);
  }

 private:
  // The result is immutable once set, so callbacks read it without the lock.
  void Run(Callback callback) {
    if (!runner_) return GuardedCallback([&] { callback(*result_); });
    // Copies the result: this state may be gone when the callback runs.
    runner_([callback = std::move(callback), result = *result_] {
      GuardedCallback([&] { callback(result); });
    });
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable resolved_;
  std::optional<StatusOr<T>> result_;
  std::vector<Callback> callbacks_;
  std::function<void()> cancel_;
  const CallbackRunner runner_;
};

}  // namespace internal

// A result that comes later: exactly once, a value or the Status that says why not. A small
// copyable handle; thread-safe. A default-made one is not valid().
template <class T>
class Future {
 public:
  Future() = default;
  explicit Future(std::shared_ptr<internal::FutureState<T>> state) : state_(std::move(state)) {}

  bool valid() const { return state_ != nullptr; }
  bool ready() const { return state_ != nullptr && state_->ready(); }

  // Waits up to `timeout`. kDeadlineExceeded means not yet: the future may still resolve.
  // Do not wait on an actor's thread for something that the same actor must do.
  StatusOr<T> Get(Duration timeout) const {
    if (!valid()) return FailedPrecondition("this future was never made");
    return state_->Get(timeout);
  }

  // Calls `callback(const StatusOr<T>&)` once: on the runtime's executor for calls, else at once
  // on the thread that resolves. It must not block; what it throws is logged. Of one that is not
  // valid() it is called here, with what Get says.
  void Then(std::function<void(const StatusOr<T>&)> callback) const {
    if (!valid()) return internal::GuardedCallback([&] { callback(Get(Duration(0))); });
    state_->Then(std::move(callback), state_);
  }

  // Gives up on the result: a call that has not been sent or begun never runs, and the future
  // resolves to kCancelled, with an outcome that says whether it may have run. Nothing happens when
  // it is resolved already, or comes from something that cannot be cancelled.
  void Cancel() const {
    if (valid()) state_->Cancel();
  }

 private:
  std::shared_ptr<internal::FutureState<T>> state_;
};

// The side that resolves. Copyable; thread-safe. When the last copy goes without a result, the
// future resolves to kInternal, so that nobody waits for ever; when it goes with an actor that
// ends, to kPeerDied or kCancelled.
template <class T>
class Promise {
 public:
  explicit Promise(CallbackRunner runner = nullptr)
      : owner_(std::make_shared<Owner>(std::move(runner))) {}

  Future<T> future() const { return Future<T>(owner_->state); }
  // False when it was resolved before.
  bool Set(StatusOr<T> result) const {
    return owner_->state->Set(std::move(result), owner_->state);
  }
  // `cancel` is called at most once, by Future::Cancel, before there is a result; it should see to
  // it that there is one. It must not hold this promise.
  void OnCancel(std::function<void()> cancel) const { owner_->state->OnCancel(std::move(cancel)); }

 private:
  struct Owner {
    explicit Owner(CallbackRunner runner)
        : state(std::make_shared<internal::FutureState<T>>(std::move(runner))) {}
    ~Owner() {
      if (state->ready()) return;
      state->Set(internal::Dropped("the promise was dropped without a result"), state);
    }
    std::shared_ptr<internal::FutureState<T>> state;
  };
  std::shared_ptr<Owner> owner_;
};

// A future that is resolved already.
template <class T>
Future<T> MakeReady(StatusOr<T> result) {
  Promise<T> promise;
  promise.Set(std::move(result));
  return promise.future();
}

// The future of `convert(const StatusOr<T>&)`, which returns StatusOr<U>. `convert` runs where
// the first future's callbacks run, and must not block; when it throws, the result is kInternal.
template <class U, class T, class F>
Future<U> Map(const Future<T>& future, F convert) {
  Promise<U> promise;
  promise.OnCancel([future] { future.Cancel(); });
  future.Then([promise, convert = std::move(convert)](const StatusOr<T>& result) {
    promise.Set(convert(result));
  });
  return promise.future();
}

// Resolves to the index of the one of `futures` that resolves first; kInvalidArgument: there are
// none.
template <class T>
Future<size_t> WhenAny(const std::vector<Future<T>>& futures) {
  const Promise<size_t> promise;
  if (futures.empty()) promise.Set(InvalidArgument("WhenAny of no futures"));
  for (size_t k = 0; k < futures.size(); ++k) {
    futures[k].Then([promise, k](const StatusOr<T>&) { promise.Set(k); });
  }
  return promise.future();
}

// Resolves when all of `futures` have, with every result in order. It never fails itself.
template <class T>
Future<std::vector<StatusOr<T>>> WhenAll(const std::vector<Future<T>>& futures) {
  struct Gather {
    std::mutex mutex;
    std::vector<std::optional<StatusOr<T>>> results;
    size_t missing = 0;
  };
  Promise<std::vector<StatusOr<T>>> promise;
  auto gather = std::make_shared<Gather>();
  gather->results.resize(futures.size());
  gather->missing = futures.size();
  if (futures.empty()) promise.Set(std::vector<StatusOr<T>>{});
  for (size_t k = 0; k < futures.size(); ++k) {
    futures[k].Then([promise, gather, k](const StatusOr<T>& result) {
      std::vector<StatusOr<T>> all;
      {
        std::lock_guard lock(gather->mutex);
        gather->results[k] = result;
        if (--gather->missing > 0) return;
        for (auto& item : gather->results) all.push_back(std::move(*item));
      }
      promise.Set(std::move(all));
    });
  }
  return promise.future();
}

}  // namespace packcast
