#pragma once

#include <sstream>

namespace packcast::internal {

// Collects the text of a failed check; its end ends the process.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Gives both branches of PC_CHECK the type void; & binds less tightly than <<.
struct Voidify {
  void operator&(std::ostream&) {}
};

}  // namespace packcast::internal

// Ends the process when `condition` is false: a bug in packcast, never bad input. Stays on in
// release builds. PC_CHECK(a < b) << "a is " << a;
#define PC_CHECK(condition)                       \
  (condition) ? (void)0                           \
              : ::packcast::internal::Voidify() & \
                    ::packcast::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()
