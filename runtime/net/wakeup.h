#pragma once

namespace packcast::net {

// An eventfd that any thread raises and one polling thread lowers. Thread-safe.
class Wakeup {
 public:
  Wakeup();
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;
  int fd() const { return fd_; }
  void Raise();
  void Lower();

 private:
  int fd_;
};

}  // namespace packcast::net
