#include "tests/runtime/sim/fiber.h"

#include <cxxabi.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "runtime/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace packcast::rtsim {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 1024u << 10;
#else
constexpr size_t kStackBytes = 256u << 10;
#endif

// The thread-local variables of the program itself: libraries of the system keep theirs for the
// real thread.
struct ThreadLocals {
  std::byte* data = nullptr;         // of the real thread
  const std::byte* image = nullptr;  // as they begin; then zeros
  size_t image_bytes = 0;
  size_t bytes = 0;
};

int FindThreadLocals(dl_phdr_info* info, size_t, void* found) {
  auto* locals = static_cast<ThreadLocals*>(found);
  locals->data = static_cast<std::byte*>(info->dlpi_tls_data);
  for (int k = 0; k < info->dlpi_phnum; ++k) {
    const auto& header = info->dlpi_phdr[k];
    if (header.p_type != PT_TLS) continue;
    locals->image = reinterpret_cast<const std::byte*>(info->dlpi_addr + header.p_vaddr);
    locals->image_bytes = header.p_filesz;
    locals->bytes = header.p_memsz;
  }
  return 1;  // the first is the program
}

const ThreadLocals& Locals() {
  static const ThreadLocals locals = [] {
    ThreadLocals found;
    dl_iterate_phdr(FindThreadLocals, &found);
    PC_CHECK(found.bytes == 0 || found.data != nullptr) << "no thread-local variables";
    return found;
  }();
  return locals;
}

// Stacks are used again: to map one takes longer than most fibers run.
std::vector<std::byte*>& FreeStacks() {
  static std::vector<std::byte*> stacks;
  return stacks;
}

std::byte* TakeStack() {
  std::vector<std::byte*>& free = FreeStacks();
  if (!free.empty()) {
    std::byte* stack = free.back();
    free.pop_back();
    return stack;
  }
  void* mapped = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PC_CHECK(mapped != MAP_FAILED) << "no memory for a stack";
  PC_CHECK(mprotect(mapped, 4096, PROT_NONE) == 0);  // who overflows it shall not go on
  return static_cast<std::byte*>(mapped);
}

}  // namespace

Fiber::Fiber() : thread_locals_(Locals().bytes) {
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  void* bottom = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &bottom_bytes_);
  pthread_attr_destroy(&attributes);
  bottom_ = bottom;
#endif
}

Fiber::Fiber(std::function<void()> body)
    : body_(std::move(body)),
      stack_(TakeStack()),
      stack_bytes_(kStackBytes),
      bottom_(stack_),
      bottom_bytes_(kStackBytes),
      thread_locals_(Locals().bytes) {
  if (Locals().image_bytes > 0) {
    std::memcpy(thread_locals_.data(), Locals().image, Locals().image_bytes);
  }
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(&Fiber::Enter), 2,
              static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
}

Fiber::~Fiber() {
  if (stack_ != nullptr) FreeStacks().push_back(stack_);
}

void Fiber::Enter(unsigned low, unsigned high) {
  auto* const self =
      reinterpret_cast<Fiber*>((static_cast<uintptr_t>(high) << 32) | static_cast<uintptr_t>(low));
  self->Arrive();
  self->body_();
  PC_CHECK(false) << "a fiber has come to its end";
}

void Fiber::SaveThread() {
  if (!thread_locals_.empty()) {
    std::memcpy(thread_locals_.data(), Locals().data, thread_locals_.size());
  }
  std::memcpy(exceptions_, abi::__cxa_get_globals(), sizeof exceptions_);
}

void Fiber::LoadThread() {
  if (!thread_locals_.empty()) {
    std::memcpy(Locals().data, thread_locals_.data(), thread_locals_.size());
  }
  std::memcpy(static_cast<void*>(abi::__cxa_get_globals()), exceptions_, sizeof exceptions_);
}

// On this one's stack, whenever it goes on.
void Fiber::Arrive() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::SwitchFrom(Fiber* from, bool is_last) {
  from->SaveThread();
  LoadThread();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(is_last ? nullptr : &from->fake_stack_, bottom_, bottom_bytes_);
#else
  (void)is_last;
#endif
  swapcontext(&from->context_, &context_);
  from->Arrive();
}

}  // namespace packcast::rtsim
