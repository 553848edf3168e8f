"""The Python rules of packcast. The interpreter is the system's python3: //tools/python."""

def pc_py_binary(name, **kwargs):
    """py_binary; imports start at the top of the workspace."""
    native.py_binary(name = name, python_version = "PY3", **kwargs)

def pc_py_library(name, **kwargs):
    """py_library; imports start at the top of the workspace."""
    native.py_library(name = name, **kwargs)

def pc_py_test(name, size, srcs, **kwargs):
    """A unittest script.

    Args:
      name: of the test.
      size: mandatory: small (60 s), medium (300 s), large (900 s).
      srcs: the first one is the script.
      **kwargs: passed through, e.g. args, data, deps, tags.
    """
    native.py_test(
        name = name,
        size = size,
        srcs = srcs,
        main = srcs[0],
        python_version = "PY3",
        **kwargs
    )
