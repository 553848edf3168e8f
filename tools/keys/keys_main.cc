// Makes and changes files with CURVE keys; docs/operations.md says what for.
//   bazel run //tools/keys -- new /etc/packcast/trainer-0.keys
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/actor/keys.h"

namespace packcast {
namespace {

Status New(const std::string& path) {
  const RuntimeKeys keys = MakeKeys();
  PC_RETURN_IF_ERROR(SaveKeys(path, keys));
  std::printf("%s\n", keys.public_key.c_str());
  return OkStatus();
}

Status Public(const std::string& path) {
  PC_ASSIGN_OR_RETURN(const RuntimeKeys keys, LoadKeys(path));
  std::printf("%s\n", keys.public_key.c_str());
  return OkStatus();
}

Status Allow(const std::string& path, const std::string& key) {
  PC_ASSIGN_OR_RETURN(RuntimeKeys keys, LoadKeys(path));
  // The list replaces "its own only": who shares this file stays in.
  if (keys.allowed.empty()) keys.allowed.push_back(keys.public_key);
  if (std::find(keys.allowed.begin(), keys.allowed.end(), key) == keys.allowed.end()) {
    keys.allowed.push_back(key);
  }
  PC_RETURN_IF_ERROR(CheckKeys(keys));
  return SaveKeys(path, keys, true);
}

Status Server(const std::string& path, const std::string& key) {
  PC_ASSIGN_OR_RETURN(RuntimeKeys keys, LoadKeys(path));
  keys.server_public_key = key;
  PC_RETURN_IF_ERROR(CheckKeys(keys));
  return SaveKeys(path, keys, true);
}

// The command line, with a "--" before a key that begins with "-": it is no option.
std::vector<const char*> Words(int argc, char** argv) {
  constexpr size_t kKeyText = 40;
  std::vector<const char*> words;
  bool has_end = false;  // of the options
  for (int k = 0; k < argc; ++k) {
    const std::string_view word = argv[k];
    const bool is_key = k > 0 && word.size() == kKeyText && word.front() == '-';
    if (is_key && !has_end) words.push_back("--");
    has_end = has_end || is_key || word == "--";
    words.push_back(argv[k]);
  }
  return words;
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) {
  using namespace packcast;
  std::string path;
  std::string key;
  Status status;
  CLI::App app("CURVE keys for packcast processes", "keys");
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* about, bool has_key,
                       const std::function<Status()>& run) {
    CLI::App* const command = app.add_subcommand(name, about);
    command->add_option("file", path, "the file with the keys of one process")->required();
    if (has_key) command->add_option("public_key", key, "of the other process")->required();
    command->callback([&status, run] { status = run(); });
  };
  add("new", "makes a file with a new pair, and prints the public key", false,
      [&] { return New(path); });
  add("public", "prints the public key", false, [&] { return Public(path); });
  add("allow", "lets the process with that public key connect to this one", true,
      [&] { return Allow(path, key); });
  add("server", "says which process this one connects to", true, [&] { return Server(path, key); });
  const std::vector<const char*> words = Words(argc, argv);
  CLI11_PARSE(app, static_cast<int>(words.size()), words.data());
  if (status.ok()) return 0;
  std::fprintf(stderr, "keys: %s\n", status.ToString().c_str());
  return 1;
}
