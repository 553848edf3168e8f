// What the runtime asks of the system, answered by the Kernel while a simulation runs: threads,
// locks, the clock, chance, and descriptors that are waited for. The linker finds these functions
// before those of the C library, so that the runtime is the very one that programs link.
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "runtime/base/check.h"
#include "tests/runtime/sim/descriptors.h"
#include "tests/runtime/sim/kernel.h"

namespace packcast::rtsim {
namespace {

// The function of the same name that this one hides.
template <class F>
F* Real(const char* name, F*) {
  auto* const found = reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
  PC_CHECK(found != nullptr) << "the C library has no " << name;
  return found;
}
#define PC_REAL(name)                               \
  ([] {                                             \
    static auto* const real = Real(#name, &::name); \
    return real;                                    \
  }())

constexpr int64_t kNanos = 1'000'000'000;

Time FromTimespec(const timespec& t) { return Time(Nanoseconds(t.tv_sec * kNanos + t.tv_nsec)); }

void LockIn(Kernel* kernel, pthread_mutex_t* mutex) {
  while (PC_REAL(pthread_mutex_trylock)(mutex) != 0) kernel->Wait(mutex);
}

void UnlockIn(Kernel* kernel, pthread_mutex_t* mutex) {
  PC_REAL(pthread_mutex_unlock)(mutex);
  kernel->WakeAll(mutex);
}

int WaitIn(Kernel* kernel, pthread_cond_t* condition, pthread_mutex_t* mutex, Time deadline) {
  UnlockIn(kernel, mutex);
  // Now and then it wakes up for nothing, as the standard allows.
  constexpr double kSpurious = 0.01;
  if (kernel->random().Chance(kSpurious)) deadline = std::min(deadline, kernel->now());
  const bool was_woken = kernel->Wait(condition, deadline);
  LockIn(kernel, mutex);
  return was_woken ? 0 : ETIMEDOUT;
}

}  // namespace
}  // namespace packcast::rtsim

using namespace packcast::rtsim;

extern "C" {

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                   void* argument) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_create)(thread, attributes, body, argument);
  *thread = static_cast<pthread_t>(kernel->Start([body, argument] { body(argument); }));
  kernel->Yield();
  return 0;
}

int pthread_join(pthread_t thread, void** result) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_join)(thread, result);
  kernel->Join(static_cast<int>(thread));
  return 0;
}

int pthread_detach(pthread_t thread) {
  return Kernel::Current() == nullptr ? PC_REAL(pthread_detach)(thread) : 0;
}

pthread_t pthread_self() {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_self)();
  return static_cast<pthread_t>(kernel->self());
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_mutex_lock)(mutex);
  kernel->Yield();
  LockIn(kernel, mutex);
  return 0;
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_mutex_unlock)(mutex);
  UnlockIn(kernel, mutex);
  kernel->Yield();
  return 0;
}

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_cond_wait)(condition, mutex);
  WaitIn(kernel, condition, mutex, packcast::Time::max());
  return 0;
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* end) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_cond_clockwait)(condition, mutex, clock, end);
  return WaitIn(kernel, condition, mutex, FromTimespec(*end));
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* end) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_cond_timedwait)(condition, mutex, end);
  return WaitIn(kernel, condition, mutex, FromTimespec(*end));
}

int pthread_cond_signal(pthread_cond_t* condition) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_cond_signal)(condition);
  kernel->WakeOne(condition);
  return 0;
}

int pthread_cond_broadcast(pthread_cond_t* condition) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(pthread_cond_broadcast)(condition);
  kernel->WakeAll(condition);
  return 0;
}

// Of all clocks: nothing that the runtime does depends on the date.
int clock_gettime(clockid_t clock, timespec* time) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(clock_gettime)(clock, time);
  const int64_t now = kernel->now().time_since_epoch().count();
  *time = {now / kNanos, now % kNanos};
  return 0;
}

ssize_t getrandom(void* buffer, size_t size, unsigned flags) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(getrandom)(buffer, size, flags);
  for (size_t k = 0; k < size; k += sizeof(uint64_t)) {
    const uint64_t bits = kernel->random().Next();
    std::memcpy(static_cast<char*>(buffer) + k, &bits, std::min(sizeof bits, size - k));
  }
  return static_cast<ssize_t>(size);
}

int eventfd(unsigned initial, int flags) {
  if (Kernel::Current() == nullptr) return PC_REAL(eventfd)(initial, flags);
  return Descriptors::Of(*Kernel::Current()).Open();
}

ssize_t write(int fd, const void* data, size_t size) {
  if (!Descriptors::IsOurs(fd)) return PC_REAL(write)(fd, data, size);
  Descriptors::Of(*Kernel::Current()).Raise(fd);
  return static_cast<ssize_t>(size);
}

ssize_t read(int fd, void* data, size_t size) {
  if (!Descriptors::IsOurs(fd)) return PC_REAL(read)(fd, data, size);
  Descriptors::Of(*Kernel::Current()).Lower(fd);
  return static_cast<ssize_t>(size);
}

int close(int fd) {
  if (!Descriptors::IsOurs(fd)) return PC_REAL(close)(fd);
  Descriptors::Of(*Kernel::Current()).Close(fd);
  return 0;
}

int poll(pollfd* items, nfds_t count, int milliseconds) {
  Kernel* const kernel = Kernel::Current();
  if (kernel == nullptr) return PC_REAL(poll)(items, count, milliseconds);
  return Descriptors::Of(*kernel).Poll(items, count, milliseconds);
}

}  // extern "C"
