#!/bin/sh
# Runs a command with our ThreadSanitizer options, which need the absolute path of the list.
here=$(cd "$(dirname "$0")" && pwd)
# By default every process sleeps for a second at its end, in case a race is still to come.
export TSAN_OPTIONS="suppressions=$here/tsan.supp:halt_on_error=1:second_deadlock_stack=1\
:atexit_sleep_ms=50"

# GCC 12's and 13's runtimes stop where the kernel randomises addresses by more than 28 bits. Some
# containers forbid switching that off; there the program runs as it is.
if setarch "$(uname -m)" -R true 2>/dev/null; then
  exec setarch "$(uname -m)" -R "$@"
fi
exec "$@"
