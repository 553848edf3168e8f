"""The CUDA toolkit and the NCCL header, as the repository @cuda.

Without them @cuda is a stub: the same labels exist and are empty, HAVE_CUDA is False, and all but
the GPU path builds and tests. libnccl itself is loaded at run time, so only its header is needed.
Looked for: $CUDA_HOME, $CUDA_PATH, nvcc on $PATH, /usr/local/cuda. PACKCAST_NO_CUDA=1 forces the
stub: `bazel build --repo_env=PACKCAST_NO_CUDA=1 //...`.
"""

def _find_toolkit(ctx):
    """Returns the toolkit's folder, or None with a reason."""
    if ctx.os.environ.get("PACKCAST_NO_CUDA", "") not in ["", "0"]:
        return None, "PACKCAST_NO_CUDA is set"
    candidates = [ctx.os.environ[v] for v in ["CUDA_HOME", "CUDA_PATH"] if ctx.os.environ.get(v)]
    if not candidates:
        nvcc = ctx.which("nvcc")
        candidates = [str(nvcc.realpath.dirname.dirname)] if nvcc else []
        candidates.append("/usr/local/cuda")
    for folder in candidates:
        needed = ["bin/nvcc", "include/cuda_runtime.h", "lib64/libcudart_static.a"]
        if not [f for f in needed if not ctx.path(folder + "/" + f).exists]:
            return folder, None
    return None, "no CUDA toolkit in " + ", ".join(candidates)

def _find_nccl(ctx, toolkit):
    """Returns the folder of nccl.h, or None."""
    home = ctx.os.environ.get("NCCL_HOME")
    folders = [home + "/include"] if home else []
    for folder in folders + [toolkit + "/include", "/usr/include", "/usr/local/include"]:
        if ctx.path(folder + "/nccl.h").exists:
            return folder
    return None

def _define(ctx, header, name):
    """The value of the first `#define name value` in a header, as an integer."""
    for line in ctx.read(header).split("\n"):
        words = [w for w in line.replace("\t", " ").split(" ") if w]
        if len(words) >= 3 and words[0] == "#define" and words[1] == name:
            return int(words[2])
    fail("%s does not define %s" % (header, name))

_DEFS = """# Made by tools/workspace/cuda.bzl.
HAVE_CUDA = {have}
WHY_NOT = "{why_not}"

# CUDA_VERSION as cuda.h has it (13000 is 13.0), NCCL_VERSION as nccl.h has it (22809 is 2.28.9).
CUDA_VERSION = {cuda_version}
NCCL_VERSION = {nccl_version}
NVCC = "{nvcc}"
CUDA_INCLUDE = "{include}"

def if_cuda(yes, no = []):
    return yes if HAVE_CUDA else no
"""

_STUB = """
package(default_visibility = ["//visibility:public"])
[cc_library(name = name) for name in ["cuda_headers", "cudart", "nccl_headers"]]
"""

_REAL = """
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "cuda_headers",
    hdrs = glob(["include/*.h", "include/*.hpp", "include/crt/**"]),
    defines = ["PACKCAST_HAVE_CUDA=1"],
    includes = ["include"],
)

cc_library(
    name = "cudart",
    srcs = ["libcudart_static.a"],
    linkopts = ["-ldl", "-lpthread", "-lrt"],
    deps = [":cuda_headers"],
)

cc_library(
    name = "nccl_headers",
    hdrs = ["nccl/nccl.h"],
    includes = ["nccl"],
    deps = [":cuda_headers"],
)
"""

def _write_stub(ctx, why_not):
    ctx.file("BUILD.bazel", _STUB)
    ctx.file("defs.bzl", _DEFS.format(
        have = False,
        why_not = why_not,
        cuda_version = 0,
        nccl_version = 0,
        include = "",
        nvcc = "",
    ))

def _cuda_repository_impl(ctx):
    toolkit, why_not = _find_toolkit(ctx)
    if not toolkit:
        _write_stub(ctx, why_not)
        return
    nccl = _find_nccl(ctx, toolkit)
    if not nccl:
        _write_stub(ctx, "a CUDA toolkit but no nccl.h (set NCCL_HOME)")
        return
    ctx.symlink(toolkit + "/include", "include")
    ctx.symlink(toolkit + "/lib64/libcudart_static.a", "libcudart_static.a")
    ctx.symlink(nccl + "/nccl.h", "nccl/nccl.h")
    ctx.file("BUILD.bazel", _REAL)
    ctx.file("defs.bzl", _DEFS.format(
        have = True,
        why_not = "",
        cuda_version = _define(ctx, toolkit + "/include/cuda.h", "CUDA_VERSION"),
        nccl_version = (_define(ctx, nccl + "/nccl.h", "NCCL_MAJOR") * 10000 +
                        _define(ctx, nccl + "/nccl.h", "NCCL_MINOR") * 100 +
                        _define(ctx, nccl + "/nccl.h", "NCCL_PATCH")),
        include = toolkit + "/include",
        nvcc = toolkit + "/bin/nvcc",
    ))

cuda_repository = repository_rule(
    doc = "Makes @cuda: //:cuda_headers, //:cudart (static), //:nccl_headers and defs.bzl.",
    implementation = _cuda_repository_impl,
    configure = True,
    environ = ["CUDA_HOME", "CUDA_PATH", "NCCL_HOME", "PACKCAST_NO_CUDA", "PATH"],
    local = True,
)
