"""A folder of this repository as a repository of its own, wherever this one lies."""

def _vendored_repository_impl(ctx):
    folder = ctx.path(Label("@packcast//tools/workspace:BUILD.bazel")).dirname
    for entry in folder.get_child(ctx.attr.folder).readdir():
        ctx.symlink(entry, entry.basename)

# local_repository would look for the folder in the workspace of who depends on us.
vendored_repository = repository_rule(
    implementation = _vendored_repository_impl,
    attrs = {"folder": attr.string(mandatory = True)},
    local = True,
)
