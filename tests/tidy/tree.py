"""The source tree as the tidy tests see it: the real files, not copies in Bazel's folders."""

import os

CPP = (".h", ".cc", ".cu", ".cuh")
# "corpus": bytes that only a fuzz target reads.
_SKIPPED_FOLDERS = {".git", "out", "__pycache__", "node_modules", "corpus"}


def root():
    """The top of the workspace: where the WORKSPACE file among our run files really is."""
    return os.path.dirname(os.path.realpath("WORKSPACE"))


def files(suffixes=("",), under=("",)):
    """Sorted paths, relative to the root, of files with one of the suffixes."""
    found = []
    for folder, folders, names in os.walk(root()):
        folders[:] = [f for f in folders if f not in _SKIPPED_FOLDERS and f[:6] != "bazel-"]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root())
            if path.endswith(suffixes) and path.startswith(under) and os.path.isfile(full(path)):
                found.append(path)
    return sorted(found)


def full(path):
    return os.path.join(root(), path)


def read(path):
    """The text of a file, or None if it is binary."""
    try:
        with open(full(path), encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        return None
