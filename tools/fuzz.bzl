"""pc_fuzz_test: one source, a quick test by default and a libFuzzer program with --config=fuzz."""

load("//tools:cc.bzl", "COPTS")

_LIBFUZZER = "//tools:libfuzzer"
_DEFAULT = "//conditions:default"

def pc_fuzz_test(name, srcs, deps, mutations = 5000):
    """A target with LLVMFuzzerTestOneInput.

    By default it runs the files of corpus/NAME and mutations of them that are always the same. With
    --config=fuzz it is a libFuzzer program: tests/fuzz/run.sh runs it for as long as one likes.

    Args:
      name: of the target and of its corpus.
      srcs: sources.
      deps: libraries.
      mutations: how many the quick test tries; it should take a second or two.
    """
    corpus = native.package_name() + "/corpus/" + name
    native.cc_test(
        name = name,
        size = "small",
        srcs = srcs,
        args = select({
            _LIBFUZZER: ["-runs=0"],
            _DEFAULT: ["--mutations=%d" % mutations],
        }) + [corpus],
        copts = COPTS,
        data = native.glob(["corpus/%s/*" % name]),
        linkopts = select({
            _LIBFUZZER: ["-fsanitize=fuzzer"],
            _DEFAULT: [],
        }),
        tags = ["one-thread"],
        deps = deps + select({
            _LIBFUZZER: [],
            _DEFAULT: ["//tests/fuzz:replay"],
        }),
    )
