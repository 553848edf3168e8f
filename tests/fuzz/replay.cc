// The main of a fuzz target without libFuzzer: runs each file of the given folders or paths, then
// mutations of them, the same ones each time. What made it crash is left in a file.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kInputBytes = 4096;

std::string current;     // the input that runs
std::string crash_path;  // where it goes when it crashes

void SaveInput(int signal) {
  const int file = open(crash_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0 || write(file, current.data(), current.size()) < 0) _exit(1);
  std::fprintf(stderr, "the input of %zu bytes is in %s\n", current.size(), crash_path.c_str());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void SaveInputOnCrash() {
  const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  crash_path = std::string(folder != nullptr ? folder : ".") + "/crash-input";
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    std::signal(signal, SaveInput);
  }
}

void Run(std::string input) {
  current = std::move(input);
  // A copy of its own: reading past its end is seen.
  const std::vector<uint8_t> bytes(current.begin(), current.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::vector<std::string> Load(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> inputs;
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return inputs;
}

// Makes inputs out of others. The same seed makes the same ones, with every standard library.
class Mutator {
 public:
  explicit Mutator(const std::vector<std::string>& inputs) : inputs_(inputs) {}

  std::string Next() {
    std::string input = Pick();
    for (uint64_t k = 1 + Below(4); k > 0; --k) Change(&input);
    if (input.size() > kInputBytes) input.resize(kInputBytes);
    return input;
  }

 private:
  uint64_t Below(uint64_t count) { return random_() % count; }
  char Byte() { return static_cast<char>(random_()); }
  const std::string& Pick() { return inputs_[Below(inputs_.size())]; }

  void Change(std::string* input) {
    const size_t at = Below(input->size() + 1);
    const size_t length = std::min<size_t>(input->size() - at, 1 + Below(16));
    switch (Below(7)) {
      case 0: input->erase(at, length); return;
      case 1: input->insert(at, 1, Byte()); return;
      case 2: input->insert(at, input->substr(at, length)); return;
      case 3: {  // the end of another one
        const std::string& other = Pick();
        input->resize(at);
        *input += other.substr(Below(other.size() + 1));
        return;
      }
      default: break;
    }
    if (at == input->size()) return;
    char& byte = (*input)[at];
    switch (Below(3)) {
      case 0: byte = Byte(); return;
      case 1: byte = static_cast<char>(byte ^ (1 << Below(8))); return;
      case 2: byte = static_cast<char>(byte + static_cast<int>(Below(9)) - 4); return;
    }
  }

  const std::vector<std::string>& inputs_;
  std::mt19937_64 random_{20240229};
};

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kMutations = "--mutations=";
  unsigned long mutations = 0;
  std::vector<std::string> paths;
  for (int k = 1; k < argc; ++k) {
    const std::string argument = argv[k];
    if (argument.starts_with(kMutations)) {
      mutations = std::strtoul(argument.c_str() + kMutations.size(), nullptr, 10);
    } else {
      paths.push_back(argument);
    }
  }
  const std::vector<std::string> inputs = Load(paths);
  if (inputs.empty()) {
    std::fprintf(stderr, "no inputs: name files, or folders of them\n");
    return 1;
  }
  SaveInputOnCrash();
  for (const std::string& input : inputs) Run(input);
  Mutator mutator(inputs);
  for (unsigned long k = 0; k < mutations; ++k) Run(mutator.Next());
  std::printf("%zu inputs and %lu mutations ran\n", inputs.size(), mutations);
  return 0;
}
