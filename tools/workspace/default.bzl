"""All external repositories of packcast. None of them needs a network."""

load("//tools/workspace:cuda.bzl", "cuda_repository")
load("//tools/workspace:pkg_config.bzl", "pkg_config_repository")
load("//tools/workspace:vendored.bzl", "vendored_repository")

# Where Debian's bazel-* packages put the rule sets that Bazel 4 wants to fetch.
_BAZEL_SHARE = "/usr/share/bazel"

def _bazel_repositories():
    local = native.local_repository
    local(name = "bazel_skylib", path = _BAZEL_SHARE + "/tools/skylib")
    local(name = "platforms", path = _BAZEL_SHARE + "/tools/platforms")
    local(name = "rules_java", path = _BAZEL_SHARE + "/rules/java")
    local(name = "rules_proto", path = _BAZEL_SHARE + "/rules/proto")

    # Debian's rules_cc does not load on its own Bazel 4.2.3; coverage tools are not packaged.
    vendored_repository(name = "rules_cc", folder = "rules_cc")
    vendored_repository(name = "remote_coverage_tools", folder = "remote_coverage_tools")

def _library_repositories():
    pkg_config_repository(
        name = "abseil",
        debian_package = "libabsl-dev",
        header = "absl/status/statusor.h",
        modules = [
            "absl_flat_hash_map",
            "absl_flat_hash_set",
            "absl_hash",
            "absl_status",
            "absl_statusor",
            "absl_strings",
            "absl_str_format",
            "absl_synchronization",
            "absl_time",
        ],
    )
    pkg_config_repository(
        name = "cli11",
        debian_package = "libcli11-dev",
        header = "CLI/CLI.hpp",
        modules = ["CLI11"],
    )
    pkg_config_repository(
        name = "gtest",
        debian_package = "libgtest-dev and libgmock-dev",
        extra_targets = {"gtest_main": "gmock_main"},
        header = "gmock/gmock.h",
        modules = ["gtest", "gmock"],
    )

    # Header-only, and without a pkg-config file of its own.
    pkg_config_repository(
        name = "msgpack",
        debian_package = "libmsgpack-cxx-dev",
        defines = ["MSGPACK_NO_BOOST"],
        header = "msgpack.hpp",
    )
    pkg_config_repository(
        name = "nlohmann_json",
        debian_package = "nlohmann-json3-dev",
        header = "nlohmann/json.hpp",
        modules = ["nlohmann_json"],
    )

    # From headers alone: a program that has packcast as a shared library may have another version.
    pkg_config_repository(
        name = "spdlog",
        debian_package = "libspdlog-dev",
        # A thread-local variable of spdlog's would be a name that the library shows.
        defines = ["SPDLOG_FMT_EXTERNAL", "FMT_HEADER_ONLY", "SPDLOG_NO_TLS"],
        header = "spdlog/spdlog.h",
    )
    pkg_config_repository(
        name = "xxhash",
        debian_package = "libxxhash-dev",
        defines = ["XXH_INLINE_ALL"],
        header = "xxhash.h",
    )
    pkg_config_repository(
        name = "zmq",
        debian_package = "libzmq3-dev",
        header = "zmq.h",
        modules = ["libzmq"],
    )

def packcast_repositories():
    """Declares every repository; call it once from WORKSPACE."""
    _bazel_repositories()
    _library_repositories()
    cuda_repository(name = "cuda")
