// CURVE keys: their files, and whom a runtime with keys lets in.
#include "runtime/actor/keys.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace {
int synced_files = 0;
int synced_folders = 0;
}  // namespace

// In the place of the system's: counts.
extern "C" int fsync(int fd) {
  struct stat info {};
  if (fstat(fd, &info) == 0) ++(S_ISDIR(info.st_mode) ? synced_folders : synced_files);
  return static_cast<int>(syscall(SYS_fsync, fd));
}

namespace packcast {
namespace {

using testing::kPatience;

class KeysFileTest : public ::testing::Test {
 protected:
  KeysFileTest() {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/a.keys";
  }
  // What is in the folder.
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }
  void Write(const std::string& text) {
    std::ofstream(path_) << text;
    chmod(path_.c_str(), 0600);
  }
  Status Load() { return LoadKeys(path_).status(); }
  std::string folder_ = ::testing::TempDir() + "/keys-XXXXXX";
  std::string path_;
};

TEST_F(KeysFileTest, GoThereAndBackAndOnlyTheOwnerMayReadThem) {
  RuntimeKeys keys = MakeKeys();
  keys.server_public_key = MakeKeys().public_key;
  keys.allowed = {MakeKeys().public_key, keys.public_key};
  ASSERT_EQ(SaveKeys(path_, keys), OkStatus());
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const StatusOr<RuntimeKeys> read = LoadKeys(path_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->public_key, keys.public_key);
  EXPECT_EQ(read->secret_key, keys.secret_key);
  EXPECT_EQ(read->server_public_key, keys.server_public_key);
  EXPECT_EQ(read->allowed, keys.allowed);
  EXPECT_EQ(SaveKeys(path_, keys).code(), StatusCode::kAlreadyExists) << "never by accident";
  EXPECT_EQ(SaveKeys(path_, MakeKeys(), true), OkStatus());
  EXPECT_TRUE(LoadKeys(path_)->allowed.empty());
}

TEST_F(KeysFileTest, WhatIsWrongIsNamedAndNoKeyIsTold) {
  EXPECT_EQ(Load().code(), StatusCode::kNotFound);
  EXPECT_NE(Load().message().find("//tools/keys"), std::string::npos) << "what to do";
  const RuntimeKeys keys = MakeKeys();
  const std::string pair = "public " + keys.public_key + "\nsecret " + keys.secret_key + "\n";
  Write(pair);
  EXPECT_EQ(Load(), OkStatus());
  chmod(path_.c_str(), 0640);
  EXPECT_EQ(Load().code(), StatusCode::kPermissionDenied);
  const std::string bad[] = {
      "",
      "public " + keys.public_key + "\n",
      pair + "server\n",
      pair + "server " + keys.public_key + " more\n",
      pair + "secret " + keys.secret_key + "\n",
      pair + "friend " + keys.public_key + "\n",
      pair + "allow " + keys.secret_key.substr(1) + "\n",
      "public " + MakeKeys().public_key + "\nsecret " + keys.secret_key + "\n",
  };
  for (const std::string& text : bad) {
    Write(text);
    EXPECT_EQ(Load().code(), StatusCode::kInvalidArgument) << Load();
    EXPECT_EQ(Load().message().find(keys.secret_key.substr(1, 20)), std::string::npos);
    EXPECT_NE(Load().message().find(path_), std::string::npos);
  }
}

TEST_F(KeysFileTest, OnlyOneThatIsThereIsReplaced) {
  EXPECT_EQ(SaveKeys(path_, MakeKeys(), true).code(), StatusCode::kNotFound);
  EXPECT_EQ(Names(), std::vector<std::string>());
}

TEST_F(KeysFileTest, OneThatIsReplacedKeepsItsOwnerAndRights) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  constexpr uid_t kOwner = 4711;
  constexpr gid_t kGroup = 4712;
  ASSERT_EQ(SaveKeys(path_, MakeKeys()), OkStatus());
  ASSERT_EQ(chown(path_.c_str(), kOwner, kGroup), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0400), 0);
  const RuntimeKeys keys = MakeKeys();
  ASSERT_EQ(SaveKeys(path_, keys, true), OkStatus());
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, kOwner);
  EXPECT_EQ(info.st_gid, kGroup);
  EXPECT_EQ(info.st_mode & 0777, 0400u);
  EXPECT_EQ(LoadKeys(path_)->public_key, keys.public_key);
}

TEST_F(KeysFileTest, ALinkStaysOneAndLeadsToTheNewKeys) {
  ASSERT_EQ(mkdir((folder_ + "/elsewhere").c_str(), 0700), 0);
  const std::string real = folder_ + "/elsewhere/real.keys";
  ASSERT_EQ(SaveKeys(real, MakeKeys()), OkStatus());
  ASSERT_EQ(symlink("elsewhere/real.keys", path_.c_str()), 0);
  const RuntimeKeys keys = MakeKeys();
  ASSERT_EQ(SaveKeys(path_, keys, true), OkStatus());
  struct stat info {};
  ASSERT_EQ(lstat(path_.c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
  EXPECT_EQ(LoadKeys(real)->public_key, keys.public_key);
  ASSERT_EQ(unlink(real.c_str()), 0);
  EXPECT_EQ(SaveKeys(path_, keys, true).code(), StatusCode::kNotFound) << "it leads nowhere";
  EXPECT_EQ(SaveKeys(path_, keys).code(), StatusCode::kAlreadyExists);
}

TEST_F(KeysFileTest, WhatAnInterruptedRunHasLeftIsInNobodysWay) {
  ASSERT_EQ(SaveKeys(path_, MakeKeys()), OkStatus());
  std::ofstream(path_ + ".new") << "public ";
  std::ofstream(path_ + ".XXXXXX") << "public ";
  const RuntimeKeys keys = MakeKeys();
  EXPECT_EQ(SaveKeys(path_, keys, true), OkStatus());
  EXPECT_EQ(LoadKeys(path_)->public_key, keys.public_key);
}

TEST_F(KeysFileTest, TheFileAndItsPlaceAreOnTheDiskBeforeItIsSaidToBeThere) {
  for (const bool replace : {false, true}) {
    synced_files = synced_folders = 0;
    ASSERT_EQ(SaveKeys(path_, MakeKeys(), replace), OkStatus());
    EXPECT_EQ(synced_files, 1);
    EXPECT_EQ(synced_folders, 1);
  }
}

// Files of this process end after so many bytes: a write that does not fit is cut short, and the
// next one fails.
class ShortFiles {
 public:
  explicit ShortFiles(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit few = before_;
    few.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &few);
  }
  ~ShortFiles() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_ = {};
  const sighandler_t handler_;
};

TEST_F(KeysFileTest, AWriteThatFailsHalfwayChangesNothing) {
  const auto save = [&](const RuntimeKeys& keys, bool replace) {
    const ShortFiles few(100);
    return SaveKeys(path_, keys, replace);
  };
  EXPECT_EQ(save(MakeKeys(), false).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Names(), std::vector<std::string>());
  const RuntimeKeys keys = MakeKeys();
  ASSERT_EQ(SaveKeys(path_, keys), OkStatus());
  EXPECT_EQ(save(MakeKeys(), true).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Names(), std::vector<std::string>{"a.keys"});
  EXPECT_EQ(LoadKeys(path_)->public_key, keys.public_key);
}

class KeysTest : public ::testing::Test {
 protected:
  // A server that has one actor.
  std::unique_ptr<Runtime> Serve(const RuntimeKeys& keys) {
    RuntimeOptions options;
    options.keys = keys;
    auto server = testing::StartRuntime("server", options);
    EXPECT_TRUE(server->Spawn("callee", testing::Echo()).ok());
    return server;
  }
  static bool Reaches(const std::string& endpoint, std::optional<RuntimeKeys> keys,
                      Duration patience) {
    RuntimeOptions options;
    options.keys = std::move(keys);
    auto client = testing::StartRuntime("client", options);
    const auto ref = client->Connect(endpoint, "callee", patience);
    return ref.ok() && ref->Call("echo", Value(1)).Get(kPatience).ok();
  }
  int64_t Refused(const Runtime& runtime) {
    int64_t count = 0;
    const Value metrics = runtime.Metrics();
    if (const Value* value = metrics.Find("refused_clients_total")) value->GetInt(&count);
    return count;
  }
  // How long those try that are not let in.
  static constexpr Duration kTry = Milliseconds(300);
};

TEST_F(KeysTest, WithoutAListWhoHasTheSameKeysComesIn) {
  const RuntimeKeys keys = MakeKeys();
  const auto server = Serve(keys);
  EXPECT_TRUE(Reaches(server->endpoint(), keys, kPatience));
  EXPECT_EQ(Refused(*server), 0);
  RuntimeKeys stranger = MakeKeys();
  stranger.server_public_key = keys.public_key;
  EXPECT_FALSE(Reaches(server->endpoint(), stranger, kTry));
  EXPECT_GT(Refused(*server), 0);
}

TEST_F(KeysTest, WithAListWhoIsOnItComesIn) {
  RuntimeKeys keys = MakeKeys();
  RuntimeKeys friendly = MakeKeys();
  RuntimeKeys stranger = MakeKeys();
  friendly.server_public_key = stranger.server_public_key = keys.public_key;
  keys.allowed = {friendly.public_key};
  const auto server = Serve(keys);
  EXPECT_TRUE(Reaches(server->endpoint(), friendly, kPatience));
  EXPECT_FALSE(Reaches(server->endpoint(), stranger, kTry));
  EXPECT_FALSE(Reaches(server->endpoint(), keys, kTry)) << "the list says who, and no others";
  // A list that names the other's public key is of no use to who has not its secret one.
  RuntimeKeys thief = stranger;
  thief.public_key = friendly.public_key;
  EXPECT_EQ(CheckKeys(thief).code(), StatusCode::kInvalidArgument);
}

TEST_F(KeysTest, WhoHasNoneOrTakesTheServerForAnotherGetsNothing) {
  const RuntimeKeys keys = MakeKeys();
  const auto server = Serve(keys);
  EXPECT_FALSE(Reaches(server->endpoint(), std::nullopt, kTry));
  RuntimeKeys misled = keys;
  misled.server_public_key = MakeKeys().public_key;
  EXPECT_FALSE(Reaches(server->endpoint(), misled, kTry));
  // And the other way round.
  auto open = testing::StartRuntime("open");
  ASSERT_TRUE(open->Spawn("callee", testing::Echo()).ok());
  EXPECT_FALSE(Reaches(open->endpoint(), keys, kTry));
  EXPECT_TRUE(Reaches(server->endpoint(), keys, kPatience)) << "it serves on";
}

// A server whose list of keys changes, as it does when the process is started anew with another
// file; and a client that stays.
class ChangedListTest : public KeysTest {
 protected:
  ChangedListTest() {
    RuntimeKeys mine = MakeKeys();
    mine.server_public_key = keys_.public_key;
    RuntimeOptions options;
    options.keys = mine;
    client_ = testing::StartRuntime("client", options);
    client_key_ = mine.public_key;
    Restart(std::vector{client_key_});
    endpoint_ = server_->endpoint();
  }
  // `allowed`: nothing for a server without keys.
  void Restart(std::optional<std::vector<std::string>> allowed) {
    server_.reset();
    RuntimeOptions options;
    options.name = "server";
    if (!endpoint_.empty()) options.bind = endpoint_;
    if (allowed) {
      options.keys = keys_;
      options.keys->allowed = std::move(*allowed);
    }
    const Time give_up = Now() + kPatience;
    StatusOr<std::unique_ptr<Runtime>> started = Runtime::Start(options);
    // The last one's socket may still close.
    while (!started.ok() && Now() < give_up) started = Runtime::Start(options);
    server_ = std::move(started).value();
    EXPECT_TRUE(server_->Spawn("callee", testing::Echo()).ok());
  }
  void AwaitRefusals(int64_t count) {
    const Time give_up = Now() + kPatience;
    while (Refused(*server_) < count && Now() < give_up) std::this_thread::yield();
    EXPECT_GE(Refused(*server_), count);
  }
  static void ExpectIsIn(const StatusOr<ActorRef>& ref) {
    ASSERT_TRUE(ref.ok()) << ref.status();
    EXPECT_TRUE(ref->Call("echo", Value(1)).Get(kPatience).ok());
  }
  StatusOr<ActorRef> Connect() { return client_->Connect(endpoint_, "callee", kPatience); }

  const RuntimeKeys keys_ = MakeKeys();
  const std::vector<std::string> others_ = {MakeKeys().public_key};
  std::string client_key_;
  std::string endpoint_;
  std::unique_ptr<Runtime> server_;
  std::unique_ptr<Runtime> client_;
};

TEST_F(ChangedListTest, WhoWasTurnedAwayAndIsAllowedLaterComesIn) {
  Restart(others_);
  const Future<ActorRef> found = client_->ConnectAsync(endpoint_, "callee", 2 * kPatience);
  AwaitRefusals(3);  // it goes on asking
  EXPECT_FALSE(found.ready());
  Restart(std::vector{client_key_});
  ExpectIsIn(found.Get(kPatience));
}

TEST_F(ChangedListTest, WhoWasInAndThenOffTheListComesBack) {
  ExpectIsIn(Connect());
  Restart(others_);
  const Future<ActorRef> found = client_->ConnectAsync(endpoint_, "callee", 2 * kPatience);
  AwaitRefusals(2);
  Restart(std::vector{client_key_});
  ExpectIsIn(found.Get(kPatience));
}

TEST_F(ChangedListTest, WhoMetAServerWithoutKeysComesIn) {
  Restart(std::nullopt);
  const Future<ActorRef> found = client_->ConnectAsync(endpoint_, "callee", 2 * kPatience);
  const Time give_up = Now() + kPatience;
  Status refused;
  // The server hangs up, too: now and then before its answer is read.
  const auto is_refused = [&] {
    return refused.message().find("it has no CURVE keys") != std::string::npos;
  };
  while (!is_refused() && Now() < give_up) {
    refused = client_->Connect(endpoint_, "callee", Milliseconds(200)).status();
  }
  EXPECT_TRUE(is_refused()) << refused;
  EXPECT_FALSE(found.ready());
  Restart(std::vector{client_key_});
  ExpectIsIn(found.Get(kPatience));
}

TEST_F(ChangedListTest, TheLogSaysOnceThatOneIsTurnedAway) {
  Restart(others_);
  ::testing::internal::CaptureStderr();
  const Future<ActorRef> found = client_->ConnectAsync(endpoint_, "callee", 2 * kPatience);
  AwaitRefusals(4);
  Restart(std::vector{client_key_});
  ExpectIsIn(found.Get(kPatience));
  const std::string log = ::testing::internal::GetCapturedStderr();
  const auto count = [&](const std::string& text) {
    size_t times = 0;
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++times;
    return times;
  };
  EXPECT_EQ(count("turned us away: our public key is not on its list"), 1u) << log;
  EXPECT_EQ(count("lets us in now"), 1u) << log;
}

TEST_F(KeysTest, BadKeysAreRefusedAtTheStart) {
  RuntimeOptions options;
  options.name = "node";
  options.keys = RuntimeKeys{"not a key", "nor this", "", {}};
  EXPECT_EQ(Runtime::Start(options).status().code(), StatusCode::kInvalidArgument);
  options.keys = MakeKeys();
  options.keys->allowed = {"no key"};
  EXPECT_EQ(Runtime::Start(options).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(KeysTest, AreEnoughToListenBeyondLoopback) {
  RuntimeOptions options;
  options.name = "node";
  options.bind = "tcp://0.0.0.0:*";
  EXPECT_EQ(Runtime::Start(options).status().code(), StatusCode::kPermissionDenied);
  options.keys = MakeKeys();
  EXPECT_TRUE(Runtime::Start(options).ok());
}

TEST_F(KeysTest, AKeyThatEndsEarlyIsNone) {
  RuntimeKeys keys = MakeKeys();
  keys.allowed = {keys.public_key};
  keys.allowed[0][20] = '\0';
  EXPECT_EQ(CheckKeys(keys).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace packcast
