"""The C++ rules of packcast: every BUILD file loads these instead of the built-in ones.

One place for the language version and the warnings, and the one edit to make when a later Bazel
wants cc rules loaded from @rules_cc. Include paths start at the top of the workspace.
"""

COPTS = [
    "-std=c++20",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wnon-virtual-dtor",
    "-Wshadow",

    # Designated initializers leave out fields on purpose: the rest has defaults.
    "-Wno-missing-field-initializers",

    # GCC 12 and 13 report these falsely inside the standard library, more so with sanitizers.
    "-Wno-array-bounds",
    "-Wno-dangling-pointer",
    "-Wno-maybe-uninitialized",
    "-Wno-restrict",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
]

_SIZES = ["small", "medium", "large", "enormous"]

def pc_cc_library(name, copts = [], **kwargs):
    """cc_library with our flags, linked into the program. Other attributes pass through."""

    # Elsewhere a cc_test gets a shared object of each library by default. Those that call CUDA
    # would not load: its runtime is an archive that shows nothing to other objects.
    native.cc_library(name = name, copts = COPTS + copts, linkstatic = True, **kwargs)

def pc_cc_binary(name, copts = [], **kwargs):
    """cc_binary with our flags. Other attributes pass through."""
    native.cc_binary(name = name, copts = COPTS + copts, **kwargs)

def pc_cc_test(name, size, copts = [], deps = [], main = True, **kwargs):
    """cc_test with our flags and GoogleTest.

    Args:
      name: of the test, by habit that of its source without .cc.
      size: mandatory: small (60 s), medium (300 s), large (900 s). It is the test's time limit.
      copts: added to ours.
      deps: added to GoogleTest and GoogleMock.
      main: False when the sources have a main() of their own.
      **kwargs: passed through, e.g. srcs, data, env, tags.
    """
    if size not in _SIZES:
        fail("%s: size must be one of %s" % (name, _SIZES))
    native.cc_test(
        name = name,
        size = size,
        copts = COPTS + copts,
        deps = deps + ["@gtest//:gtest_main" if main else "@gtest//:gtest"],
        **kwargs
    )
