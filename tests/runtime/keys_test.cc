// CURVE keys: their files, and whom a runtime with keys lets in.
#include "runtime/actor/keys.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::kPatience;

class KeysFileTest : public ::testing::Test {
 protected:
  KeysFileTest() {
    std::string folder = ::testing::TempDir() + "/keys-XXXXXX";
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    path_ = folder + "/a.keys";
  }
  void Write(const std::string& text) {
    std::ofstream(path_) << text;
    chmod(path_.c_str(), 0600);
  }
  Status Load() { return LoadKeys(path_).status(); }
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
  AwaitRefusals(2);
  Restart(std::vector{client_key_});
  ExpectIsIn(Connect());
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
