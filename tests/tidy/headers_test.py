"""Each header of the library compiles alone, so that it can be read and included alone.

Where foo.cc includes foo.h before anything else, compiling foo.cc has shown that already. This
test compiles the headers that no file proves so.
"""

import concurrent.futures
import os
import re
import subprocess
import sys
import unittest

from tests.tidy import tree

FOLDERS = ("protocol/", "runtime/", "actors/")
FIRST_INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.MULTILINE)
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


def is_proven(header):
    """Whether the source file of the same name includes it first."""
    for suffix in (".cc", ".cu"):
        source = header[:-2] + suffix
        if os.path.isfile(tree.full(source)):
            first = FIRST_INCLUDE.search(tree.read(source))
            if first and first.group(1) == header:
                return True
    return False


class HeadersTest(unittest.TestCase):
    cuda_include = ""

    def test_each_header_compiles_alone(self):
        all_headers = tree.files((".h",), FOLDERS)
        headers = [header for header in all_headers if not is_proven(header)]
        self.assertLess(len(headers), len(all_headers))
        flags = pkg_config_flags()
        if self.cuda_include:
            flags += ["-isystem", self.cuda_include, "-DPACKCAST_HAVE_CUDA=1"]
        else:
            headers = [h for h in headers if not CUDA_HEADER.search(tree.read(h))]
        print("%d of %d headers" % (len(headers), len(all_headers)))
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            shares = [headers[i::JOBS] for i in range(JOBS)]
            faults = list(pool.map(lambda s: compile_alone(s, flags) if s else "", shares))
        self.assertEqual("".join(faults), "", "\n" + "".join(faults)[:8000])


if __name__ == "__main__":
    for argument in [a for a in sys.argv if a.startswith("--cuda_include=")]:
        HeadersTest.cuda_include = argument.split("=", 1)[1]
        sys.argv.remove(argument)
    unittest.main()
