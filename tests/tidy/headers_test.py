"""Each header of the library compiles alone, so that it can be read and included alone."""

import concurrent.futures
import os
import re
import subprocess
import sys
import unittest

from tests.tidy import tree

FOLDERS = ("protocol/", "runtime/", "actors/")
CUDA_HEADER = re.compile(r"#include <(cuda\w*|nccl)\.h>")
JOBS = min(4, os.cpu_count() or 1)


def pkg_config_flags():
    """Include paths and defines of the system libraries."""
    modules = ["libzmq", "absl_status", "spdlog", "libxxhash", "nlohmann_json"]
    result = subprocess.run(
        ["pkg-config", "--cflags"] + modules, capture_output=True, text=True, check=True
    )
    return result.stdout.split() + ["-DMSGPACK_NO_BOOST"]


def compile_alone(headers, flags):
    """One compiler run: each header is a translation unit of its own. Returns the complaints."""
    # -w: "#pragma once in main file" has no switch of its own.
    command = ["g++", "-std=c++20", "-fsyntax-only", "-w", "-I.", "-x", "c++"] + flags + headers
    result = subprocess.run(command, cwd=tree.root(), capture_output=True, text=True, check=False)
    return result.stderr if result.returncode else ""


class HeadersTest(unittest.TestCase):
    cuda_include = ""

    def test_each_header_compiles_alone(self):
        headers = tree.files((".h",), FOLDERS)
        flags = pkg_config_flags()
        if self.cuda_include:
            flags += ["-isystem", self.cuda_include, "-DPACKCAST_HAVE_CUDA=1"]
        else:
            headers = [h for h in headers if not CUDA_HEADER.search(tree.read(h))]
        print("%d headers" % len(headers))
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            shares = [headers[i::JOBS] for i in range(JOBS)]
            faults = list(pool.map(lambda s: compile_alone(s, flags) if s else "", shares))
        self.assertEqual("".join(faults), "", "\n" + "".join(faults)[:8000])


if __name__ == "__main__":
    for argument in [a for a in sys.argv if a.startswith("--cuda_include=")]:
        HeadersTest.cuda_include = argument.split("=", 1)[1]
        sys.argv.remove(argument)
    unittest.main()
