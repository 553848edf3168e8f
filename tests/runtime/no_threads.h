#pragma once

#include <pthread.h>

#include <cstddef>

namespace packcast::testing {

// While it is there no thread of this process can be made: none has room for its stack.
class NoThreads {
 public:
  NoThreads() {
    pthread_attr_t attributes;
    pthread_getattr_default_np(&attributes);
    pthread_attr_getstacksize(&attributes, &before_);
    pthread_attr_destroy(&attributes);
    SetStack(size_t{1} << 46);
  }
  ~NoThreads() { SetStack(before_); }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;

 private:
  static void SetStack(size_t bytes) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, bytes);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }
  size_t before_ = 0;
};

}  // namespace packcast::testing
