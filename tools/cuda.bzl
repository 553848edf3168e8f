"""pc_cuda_library: CUDA sources compiled with nvcc; an empty library when there is no toolkit."""

load("@cuda//:defs.bzl", "HAVE_CUDA", "NVCC")
load("//tools:cc.bzl", "pc_cc_library")

# Machine code for A100 and H100/H200, and PTX that later GPUs compile when they load it.
_NVCC_FLAGS = [
    "-std=c++20",
    "-O2",
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",
    "-Werror=all-warnings",
    "-Xcompiler=-fPIC",
    "-Xcompiler=-Wall",
]

def _compile(ctx, source, headers, flags, host_compiler):
    output = ctx.actions.declare_file("_cuda/%s/%s.pic.o" % (ctx.label.name, source.basename))
    ctx.actions.run(
        executable = NVCC,
        arguments = ["-c", source.path, "-o", output.path, "-ccbin", host_compiler] + flags,
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin"},  # nvcc starts the host's tools.
        inputs = depset([source], transitive = [headers]),
        outputs = [output],
        mnemonic = "CudaCompile",
        progress_message = "Compiling %s with nvcc" % source.short_path,
    )
    return output

def _cuda_objects_impl(ctx):
    context = cc_common.merge_cc_infos(
        cc_infos = [dep[CcInfo] for dep in ctx.attr.deps],
    ).compilation_context
    flags = _NVCC_FLAGS + ctx.attr.nvcc_copts
    flags += ["-I" + d for d in context.quote_includes.to_list() + context.includes.to_list()]
    flags += ["-isystem=" + d for d in context.system_includes.to_list()]
    flags += ["-D" + d for d in context.defines.to_list()]
    host_compiler = ctx.attr._cc_toolchain[cc_common.CcToolchainInfo].compiler_executable
    return DefaultInfo(files = depset([
        _compile(ctx, source, context.headers, flags, host_compiler)
        for source in ctx.files.srcs
    ]))

_cuda_objects = rule(
    implementation = _cuda_objects_impl,
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "nvcc_copts": attr.string_list(),
        "srcs": attr.label_list(allow_files = [".cu"]),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
)

def pc_cuda_library(name, srcs, hdrs = [], deps = [], nvcc_copts = [], **kwargs):
    """A library of CUDA sources.

    Without a toolkit the headers and deps stay and the sources are left out, so callers choose with
    PACKCAST_HAVE_CUDA in C++ or if_cuda() in BUILD files what they call.

    Args:
      name: of the library.
      srcs: .cu files.
      hdrs: headers, which C++ code may include.
      deps: C++ libraries; the CUDA runtime is added.
      nvcc_copts: flags added to ours.
      **kwargs: passed to cc_library, e.g. visibility, testonly, tags.
    """
    objects = []
    if HAVE_CUDA:
        pc_cc_library(
            name = name + "_headers",
            hdrs = hdrs,
            deps = deps + ["@cuda//:cudart"],
            visibility = ["//visibility:private"],
        )
        _cuda_objects(
            name = name + "_objects",
            srcs = srcs,
            deps = [name + "_headers"],
            nvcc_copts = nvcc_copts,
            visibility = ["//visibility:private"],
        )
        objects = [name + "_objects"]
    pc_cc_library(
        name = name,
        srcs = objects,
        hdrs = hdrs,
        deps = deps + ["@cuda//:cudart"],
        **kwargs
    )
