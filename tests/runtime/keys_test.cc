// CURVE keys: their files, and whom a runtime with keys lets in.
#include "runtime/actor/keys.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

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
