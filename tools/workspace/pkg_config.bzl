"""A system library, found through pkg-config, as a Bazel repository.

A library that is missing does not stop Bazel from loading: only the targets that use it fail, at
build time, with a message that names the package to install. The idea is Drake's.
"""

_PREFIXES = ["/usr/include", "/usr/local/include"]

def _pkg_config(ctx, modules):
    """Returns (flags, error): exactly one of them is None."""
    program = ctx.which("pkg-config")
    if not program:
        return None, "pkg-config is not installed"
    result = ctx.execute([program, "--cflags", "--libs"] + modules)
    if result.return_code != 0:
        return None, result.stderr.strip()
    return [flag for flag in result.stdout.strip().split(" ") if flag], None

def _has_header(header, ctx, include_dirs):
    return any([ctx.path(d + "/" + header).exists for d in _PREFIXES + include_dirs])

def _split(flags):
    """Sorts flags into include directories, defines and link options."""
    includes, defines, linkopts = [], [], []
    is_include = False
    for flag in flags:
        if is_include:
            includes.append(flag)
            is_include = False
        elif flag == "-isystem":
            is_include = True
        elif flag.startswith("-I"):
            includes.append(flag[2:])
        elif flag.startswith("-D"):
            defines.append(flag[2:])
        elif flag.startswith("-L"):
            linkopts.extend([flag, "-Wl,-rpath," + flag[2:]])
        else:
            linkopts.append(flag)

    # The compiler searches /usr/include itself. Directories below it belong to private
    # dependencies (krb5 and pgm of libzmq, for example), which our headers never include.
    includes = [d for d in includes if not d.startswith("/usr/include")]
    return struct(defines = defines, includes = includes, linkopts = linkopts)

_MISSING = """# {error}
genrule(
    name = "missing",
    outs = ["missing.h"],
    cmd = "echo >&2 \\"ERROR: {name}: {error}. Run ./setup.sh, or install {package}.\\"; exit 1",
)
"""

_LIBRARY = """
cc_library(
    name = "{name}",
    hdrs = {hdrs},
    defines = {defines},
    includes = {includes},
    linkopts = {linkopts},
    deps = {deps},
    visibility = ["//visibility:public"],
)
"""

def _library(name, hdrs = [], defines = [], includes = [], linkopts = [], deps = []):
    return _LIBRARY.format(
        name = name,
        defines = defines,
        deps = deps,
        hdrs = hdrs or "glob([d + '/**' for d in {}], allow_empty = True)".format(includes),
        includes = includes,
        linkopts = linkopts,
    )

def _write_missing(ctx, error):
    plain = " ".join(error.replace("\"", "").replace("'", "").replace("$", "").split("\n"))
    text = _MISSING.format(
        name = ctx.name,
        error = plain.replace("`", "").replace("\\", "").rstrip("."),
        package = ctx.attr.debian_package,
    )
    for target in [ctx.name] + ctx.attr.extra_targets.keys():
        text += _library(target, hdrs = ["missing.h"])
    ctx.file("BUILD.bazel", text)

def _pkg_config_repository_impl(ctx):
    flags, error = [], None
    if ctx.attr.modules:
        flags, error = _pkg_config(ctx, ctx.attr.modules)
    parts = _split(flags or [])
    if not error and not _has_header(ctx.attr.header, ctx, parts.includes):
        error = "the header " + ctx.attr.header + " was not found"
    if error:
        _write_missing(ctx, error)
        return

    links = []
    for index, directory in enumerate(parts.includes):
        links.append("include%d" % index)
        ctx.symlink(directory, links[-1])
    text = _library(
        ctx.name,
        defines = parts.defines + ctx.attr.defines,
        includes = links,
        linkopts = parts.linkopts,
    )
    for target, library in ctx.attr.extra_targets.items():
        text += _library(target, linkopts = ["-l" + library], deps = [":" + ctx.name])
    ctx.file("BUILD.bazel", text)

pkg_config_repository = repository_rule(
    doc = "Makes the library @NAME//:NAME from pkg-config modules, or only from a header.",
    implementation = _pkg_config_repository_impl,
    attrs = {
        "debian_package": attr.string(mandatory = True, doc = "Named in the error message."),
        "defines": attr.string_list(doc = "Added to those that pkg-config gives."),
        "extra_targets": attr.string_dict(doc = "More targets: name -> library to link."),
        "header": attr.string(mandatory = True, doc = "Must exist, relative to an include path."),
        "modules": attr.string_list(doc = "pkg-config modules; empty for header-only libraries."),
    },
    configure = True,
    environ = ["PKG_CONFIG_PATH"],
    local = True,
)
