// Who is behind is told, and caught up from a worker that keeps what it has installed.
#include "gtest/gtest.h"

#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

constexpr Digest kContent{3, 4};  // as CoordinatorKit's members tell it

struct Serving {
  uint64_t epoch = 0;
  bool can_serve = true;
  bool dirty = false;
  uint64_t life = 1;
  Term term{1, 5};  // of an earlier coordinator
  Digest content = kContent;
  std::vector<TransportOffer> transports = {{.kind = "zmq"}};
};

class CatchUpTest : public testing::Test {
 protected:
  MemberId JoinServing(uint32_t number, const Serving& serving, uint32_t size = 1) {
    JoinCluster join;
    join.model = "default";
    join.unit = "replica-" + std::to_string(number / size);
    join.rank_in_unit = number % size;
    join.unit_size = size;
    join.offer = SmallOffer(Role::kWorker);
    join.offer.can_serve = serving.can_serve;
    join.offer.transports = serving.transports;
    if (serving.epoch != 0) {
      join.serving = Version{serving.term, EpochId(serving.epoch)};
      if (!serving.dirty) join.weights = ServedWeights{kit.manifest->digest(), serving.content, 41};
    }
    join.dirty = serving.dirty;
    const MemberId id = Id("worker-" + std::to_string(number), serving.life);
    kit.From(id, join);
    return id;
  }
  // As long as those that come together are waited for.
  void Settle() {
    kit.now += CoordinatorKit::Config(InstallMode::kStaged).deadlines.catch_up_settle;
    kit.On(Tick{});
  }
  void SendRows(const MemberId& from) {
    for (ManifestPart& part : ManifestParts(*kit.manifest)) kit.From(from, std::move(part));
  }
  bool CatchesUp() { return kit.runs() && kit.machine.epoch()->catch_up.has_value(); }
  std::string VersionOf(const std::string& name) {
    return ToString(kit.machine.membership().all().at(name).serving);
  }
  std::string StandingOf(const std::string& name) {
    kit.replies.clear();
    kit.On(ControlCall{1, "members", {}});
    for (const Value& member : *kit.replies.back().body.AsArray()) {
      if (*member.Find("name")->AsString() == name) return *member.Find("standing")->AsString();
    }
    return "no member";
  }
  Value LastEnd() { return *kit.Events("catch_up.end").back().Find("report"); }
  // A trainer, and workers 0 and 1 that serve its first sync.
  void CommitOne() {
    trainer = kit.JoinTrainer();
    for (uint32_t k = 0; k < 2; ++k) JoinServing(k, {});
    kit.Sync(trainer, 7);
    kit.AnswerAll();
    kit.Forget();
  }

  CoordinatorKit kit;
  MemberId trainer;
};

TEST_F(CatchUpTest, AFreshWorkerGetsWhatOthersServeWithoutThem) {
  CommitOne();
  JoinServing(2, {});
  EXPECT_FALSE(kit.runs()) << "others that come along are waited for";
  EXPECT_EQ(StandingOf("worker-2"), "behind");
  Settle();
  ASSERT_TRUE(CatchesUp());
  ASSERT_EQ(kit.Events("replica.behind").size(), 1u);
  EXPECT_EQ(StandingOf("worker-2"), "catching up");
  const Propose* propose = kit.To<Propose>("worker-2");
  ASSERT_NE(propose, nullptr);
  EXPECT_EQ(propose->kind, SyncKind::kCatchUp);
  EXPECT_EQ(ToString(*propose->base), "1.1");
  EXPECT_EQ(propose->label, 7u);
  EXPECT_NE(kit.To<Propose>("worker-0"), nullptr) << "the provider";
  EXPECT_EQ(kit.sent["worker-1"].size() + kit.sent["trainer-0"].size(), 0u);

  kit.AnswerUntil(EpochPhase::kStreaming);
  EXPECT_EQ(kit.machine.epoch()->contract->flows.front().root_member().name, "worker-0");
  kit.AnswerAll();
  EXPECT_EQ(VersionOf("worker-2"), "1.1");
  EXPECT_EQ(StandingOf("worker-2"), "current");
  EXPECT_EQ(kit.sent["worker-1"].size() + kit.sent["trainer-0"].size(), 0u);
  EXPECT_EQ(*LastEnd().Find("provider")->AsString(), "worker-0");
  EXPECT_TRUE(*LastEnd().Find("committed")->AsBool());
  EXPECT_EQ(ToString(*kit.machine.last_committed()), "1.1");
  EXPECT_EQ(kit.machine.reports().size(), 1u) << "of the sync alone";
  Settle();
  EXPECT_FALSE(kit.runs());
}

TEST_F(CatchUpTest, WithoutAProviderItIsToldOnceAndWaits) {
  JoinServing(0, {.epoch = 3, .can_serve = false});
  JoinServing(1, {});
  Settle();
  Settle();
  EXPECT_FALSE(kit.runs());
  ASSERT_EQ(kit.Events("replica.behind").size(), 1u);
  const Value told = kit.Events("replica.behind").front();
  EXPECT_EQ(*told.Find("replica")->AsString(), "replica-1");
  EXPECT_EQ(*told.Find("newest")->AsString(), "1.3");
  EXPECT_FALSE(*told.Find("served")->AsBool());
  EXPECT_EQ(StandingOf("worker-1"), "behind");
  EXPECT_FALSE(kit.machine.NextDeadline().has_value());
}

TEST_F(CatchUpTest, OneRankThatSawTheCommitIsEnough) {
  // The last coordinator died in the middle of its commits: one rank of the first replica serves 4.
  JoinServing(0, {.epoch = 4}, 2);
  JoinServing(1, {.epoch = 3}, 2);
  JoinServing(2, {.epoch = 3}, 2);
  JoinServing(3, {.epoch = 3}, 2);
  Settle();
  ASSERT_NE(kit.To<ManifestWanted>("worker-0"), nullptr);
  SendRows(Id("worker-0"));
  ASSERT_TRUE(CatchesUp());
  EXPECT_EQ(kit.machine.epoch()->participants.size(), 4u);
  kit.AnswerAll();
  for (const char* name : {"worker-0", "worker-1", "worker-2", "worker-3"}) {
    EXPECT_EQ(VersionOf(name), "1.4") << name;
  }
  EXPECT_FALSE(kit.machine.last_committed().has_value()) << "not this coordinator's";
}

TEST_F(CatchUpTest, NobodyGoesBack) {
  // 4 was served and written over; all that is left is 3.
  JoinServing(0, {.epoch = 4, .dirty = true});
  JoinServing(1, {.epoch = 3});
  JoinServing(2, {.epoch = 2});
  Settle();
  SendRows(Id("worker-1"));
  ASSERT_TRUE(CatchesUp());
  EXPECT_EQ(kit.machine.epoch()->FindName("worker-0"), nullptr);
  kit.AnswerAll();
  EXPECT_EQ(VersionOf("worker-2"), "1.3");
  EXPECT_EQ(StandingOf("worker-0"), "behind");
  Settle();
  EXPECT_FALSE(kit.runs());
}

TEST_F(CatchUpTest, ADrainedReplicaNeitherGivesNorTakes) {
  JoinServing(0, {.epoch = 3});
  JoinServing(1, {.epoch = 2});
  JoinServing(2, {});
  kit.On(ControlCall{9, "drain", ValueMap{{"replica", "replica-0"}}});
  kit.On(ControlCall{9, "drain", ValueMap{{"replica", "replica-2"}}});
  Settle();
  EXPECT_FALSE(kit.runs());
  kit.On(ControlCall{9, "readmit", ValueMap{{"replica", "replica-2"}}});
  Settle();
  SendRows(Id("worker-1"));
  ASSERT_TRUE(CatchesUp());
  EXPECT_EQ(ToString(kit.machine.epoch()->version()), "1.2");
}

TEST_F(CatchUpTest, ASyncBeginsAtOnceAndIncludesTheJoiner) {
  for (const EpochPhase phase : {EpochPhase::kOffers, EpochPhase::kPreparing, EpochPhase::kJoining,
                                 EpochPhase::kStreaming, EpochPhase::kAborting}) {
    kit = CoordinatorKit();
    CommitOne();
    JoinServing(2, {});
    Settle();
    ASSERT_TRUE(CatchesUp());
    if (phase == EpochPhase::kAborting) {
      kit.From(Id("worker-2"), Failed{kit.key(), "transfer", {14, "disk"}, ""});
    } else {
      kit.AnswerUntil(phase);
    }
    ASSERT_EQ(kit.phase(), phase);
    const EpochKey dropped = kit.key();
    kit.Forget();
    kit.Sync(trainer, 8);
    ASSERT_TRUE(kit.runs());
    ASSERT_FALSE(CatchesUp()) << EpochPhaseName(phase);
    EXPECT_EQ(kit.phase(), EpochPhase::kOffers);
    EXPECT_NE(kit.machine.epoch()->FindName("worker-2"), nullptr);
    for (const char* name : {"worker-0", "worker-2"}) {
      if (phase != EpochPhase::kAborting) {
        ASSERT_NE(kit.To<AbortAttempt>(name), nullptr);
        EXPECT_EQ(kit.To<AbortAttempt>(name)->key, dropped);
      }
      // Who gives its attempt up says so, and it means nothing any more.
      kit.From(Id(name), AttemptAborted{dropped, AbortOutcome::kClean, false});
    }
    EXPECT_EQ(kit.To<AbortAttempt>("worker-1"), nullptr);
    EXPECT_FALSE(kit.machine.epoch()->ahead) << "the provider has given its end up";
    kit.AnswerAll();
    EXPECT_EQ(VersionOf("worker-2"), ToString(*kit.machine.last_committed()));
    EXPECT_EQ(*LastEnd().Find("committed")->AsBool(), false);
    EXPECT_TRUE(kit.Events("epoch.abort").empty());
  }
}

TEST_F(CatchUpTest, OnceDecidedItEndsBeforeTheSync) {
  CommitOne();
  JoinServing(2, {});
  Settle();
  kit.AnswerUntil(EpochPhase::kCommitting);
  kit.Sync(trainer, 8);
  ASSERT_TRUE(CatchesUp());
  EXPECT_EQ(kit.To<AbortAttempt>("worker-2"), nullptr);
  kit.Answer();
  ASSERT_FALSE(CatchesUp());
  EXPECT_EQ(VersionOf("worker-2"), "1.1");
  kit.AnswerAll();
  EXPECT_EQ(kit.To<SyncDone>("trainer-0")->status.code, 0);
}

TEST_F(CatchUpTest, NoneBeginsWhileASyncWaitsForItsRanks) {
  JoinServing(0, {.epoch = 3});
  JoinServing(1, {});
  const MemberId first = kit.JoinTrainer(0, 2);
  const MemberId second = kit.JoinTrainer(1, 2);
  kit.Sync(first, 8);
  Settle();
  EXPECT_FALSE(kit.runs());
  kit.From(second, SyncCall{"default", 8, SyncKind::kFull, std::nullopt, kit.manifest->digest()});
  ASSERT_TRUE(kit.runs());
  EXPECT_FALSE(CatchesUp());
}

TEST_F(CatchUpTest, AFailureIsTriedAgainAfterEverLongerPauses) {
  CommitOne();
  JoinServing(2, {});
  JoinServing(3, {});
  Settle();
  for (const int64_t pause : {1, 2, 4, 8, 16, 30, 30}) {
    ASSERT_TRUE(CatchesUp());
    kit.AnswerUntil(EpochPhase::kStreaming);
    kit.From(Id("worker-2"), Failed{kit.key(), "transfer", {14, "disk"}, ""});
    kit.AnswerAll();
    EXPECT_EQ(*LastEnd().Find("culprit")->AsString(), "worker-2");
    if (pause == 1) {  // who did nothing wrong is tried again at once, and alone
      Settle();
      ASSERT_TRUE(CatchesUp());
      EXPECT_EQ(kit.machine.epoch()->FindName("worker-2"), nullptr);
      kit.AnswerAll();
      EXPECT_EQ(VersionOf("worker-3"), "1.1");
    }
    kit.now += Seconds(pause) - Milliseconds(150);
    kit.On(Tick{});
    Settle();
    EXPECT_FALSE(kit.runs()) << pause;
    kit.now += Milliseconds(150);
    kit.On(Tick{});
    Settle();
  }
  EXPECT_EQ(kit.Events("replica.behind").size(), 2u);
  // A new start is a new chance.
  kit.AnswerUntil(EpochPhase::kStreaming);
  kit.From(Id("worker-2"), Failed{kit.key(), "transfer", {14, "disk"}, ""});
  kit.AnswerAll();
  JoinServing(2, {.life = 2});
  Settle();
  ASSERT_TRUE(CatchesUp());
  kit.AnswerAll();
  EXPECT_EQ(VersionOf("worker-2"), "1.1");
}

TEST_F(CatchUpTest, AProviderThatCannotIsReplacedAtOnce) {
  CommitOne();
  JoinServing(2, {});
  Settle();
  kit.AnswerUntil(EpochPhase::kPreparing);
  kit.From(Id("worker-0"), Refused{kit.key(), {5, "keeps no copy"}, "", "", ""});
  kit.AnswerAll();
  EXPECT_FALSE(kit.runs());
  Settle();
  ASSERT_TRUE(CatchesUp());
  EXPECT_EQ(kit.machine.epoch()->catch_up->provider.name, "worker-1");
  // And that one dies.
  kit.AnswerUntil(EpochPhase::kStreaming);
  kit.On(MemberLost{Id("worker-1"), PeerDied("a test")});
  kit.AnswerAll();
  Settle();
  EXPECT_FALSE(kit.runs()) << "nobody is left who could";
  EXPECT_EQ(StandingOf("worker-2"), "behind");
  EXPECT_EQ(kit.machine.membership().all().size(), 3u) << "nobody is expelled";
  // Until it has installed something again.
  kit.Sync(trainer, 8);
  kit.AnswerAll();
  JoinServing(3, {});
  Settle();
  EXPECT_TRUE(CatchesUp());
}

TEST_F(CatchUpTest, HearsayCostsTheProviderNothing) {
  CommitOne();
  JoinServing(2, {});
  Settle();
  kit.AnswerUntil(EpochPhase::kStreaming);
  kit.From(Id("worker-2"),
           Failed{kit.key(), "transfer", WireStatus::From(Unavailable("closed")), "worker-0"});
  kit.AnswerAll();
  EXPECT_TRUE(kit.machine.membership().all().at("worker-0").weights.has_value());
  Settle();
  EXPECT_FALSE(kit.runs()) << "the one that it did not work for waits";
  kit.now += Seconds(1);
  kit.On(Tick{});
  Settle();
  ASSERT_TRUE(CatchesUp());
  EXPECT_EQ(kit.machine.epoch()->catch_up->provider.name, "worker-1") << "the next in turn";
}

TEST_F(CatchUpTest, OtherBytesThanThoseOfTheVersionAreNotInstalled) {
  JoinServing(0, {.epoch = 3, .content = Digest{5, 6}});
  JoinServing(1, {});
  Settle();
  SendRows(Id("worker-0"));
  ASSERT_TRUE(CatchesUp());
  kit.AnswerAll();  // whose content is another
  EXPECT_EQ(VersionOf("worker-1"), "none");
  EXPECT_EQ(kit.To<Commit>("worker-1"), nullptr);
  EXPECT_EQ(*LastEnd().Find("culprit")->AsString(), "worker-0");
  Settle();
  EXPECT_FALSE(kit.runs()) << "no provider is left";
}

TEST_F(CatchUpTest, InPlaceTheProviderServesOn) {
  kit = CoordinatorKit(InstallMode::kInPlace);
  CommitOne();
  JoinServing(2, {});
  Settle();
  kit.AnswerUntil(EpochPhase::kQuiescing);
  EXPECT_NE(kit.To<Quiesce>("worker-2"), nullptr);
  EXPECT_EQ(kit.To<Quiesce>("worker-0"), nullptr);
  kit.AnswerAll();
  EXPECT_EQ(VersionOf("worker-2"), "1.1");
}

TEST_F(CatchUpTest, WhatItsRanksLivedInBeforeIsNotReused) {
  const std::vector<TransportOffer> near = {{.kind = "near"}, {.kind = "far"}};
  JoinCluster join;
  join.model = "default";
  join.role = Role::kTrainer;
  join.unit = "trainer";
  join.offer.transports = near;
  trainer = Id("trainer-0");
  kit.From(trainer, join);
  JoinServing(0, {.transports = near});
  kit.Sync(trainer, 7);
  kit.AnswerAll();
  JoinServing(1, {.transports = {{.kind = "far"}}});
  Settle();
  ASSERT_TRUE(CatchesUp());
  kit.AnswerAll();
  ASSERT_EQ(VersionOf("worker-1"), "1.1");
  kit.Sync(trainer, 8);
  kit.AnswerUntil(EpochPhase::kPreparing);
  const Prepare* prepare = kit.To<Prepare>("trainer-0");
  ASSERT_EQ(prepare->generations.size(), 2u);
  // The near flow has the members that it had, and worker-0 has given its end of it up.
  EXPECT_FALSE(prepare->generations[0].reuse);
  kit.AnswerAll();
  EXPECT_EQ(kit.To<SyncDone>("trainer-0")->status.code, 0);
}

TEST_F(CatchUpTest, RowsThatDoNotComeOrAreWrongEndAProvider) {
  JoinServing(0, {.epoch = 3});
  JoinServing(1, {.epoch = 3});
  JoinServing(2, {});
  Settle();
  ASSERT_NE(kit.To<ManifestWanted>("worker-0"), nullptr);
  kit.now += Seconds(5);
  kit.On(Tick{});
  ASSERT_NE(kit.To<ManifestWanted>("worker-1"), nullptr);
  ManifestPart part = ManifestParts(*kit.manifest).front();
  part.first = 1;
  kit.From(Id("worker-2"), part);  // nobody asked it
  ASSERT_EQ(kit.Events("manifest.bad").size(), 1u);
  kit.From(Id("worker-1"), part);
  EXPECT_EQ(kit.Events("manifest.bad").size(), 2u);
  Settle();
  EXPECT_FALSE(kit.runs());
  EXPECT_FALSE(kit.machine.NextDeadline().has_value());
}

TEST_F(CatchUpTest, RowsOfAWorkerDoNotDisturbATrainersOwn) {
  JoinServing(0, {.epoch = 3});
  JoinServing(1, {});
  trainer = kit.JoinTrainer();
  Settle();
  // Parts of two manifests side by side: each kind has its place.
  std::vector<Row> rows(5000);
  for (size_t k = 0; k < rows.size(); ++k) rows[k] = {"t" + std::to_string(k), Dtype::kU8, {1}};
  const Manifest large = Manifest::Make(rows).value();
  std::vector<ManifestPart> parts = ManifestParts(large);
  ASSERT_EQ(parts.size(), 2u);
  kit.From(trainer, parts[0]);
  SendRows(Id("worker-0"));
  ASSERT_TRUE(CatchesUp());
  kit.From(trainer, parts[1]);
  kit.From(trainer, SyncCall{"default", 8, SyncKind::kFull, std::nullopt, large.digest()});
  EXPECT_FALSE(CatchesUp());
  kit.AnswerAll();
  EXPECT_EQ(kit.To<SyncDone>("trainer-0")->status.code, 0);
}

TEST_F(CatchUpTest, WhoKnowsALaterTermIsNotKeptWaiting) {
  JoinServing(0, {.epoch = 3});
  JoinServing(1, {});
  Settle();
  SendRows(Id("worker-0"));
  ASSERT_TRUE(CatchesUp());
  kit.AnswerUntil(EpochPhase::kStreaming);
  kit.JoinWorker(5, 1, 1, Term{9, 9});
  EXPECT_FALSE(kit.runs());
  EXPECT_EQ(kit.machine.term().counter, 10u);
  ASSERT_NE(kit.To<Welcome>("worker-5"), nullptr);
  Settle();
  EXPECT_TRUE(CatchesUp());
}

TEST_F(CatchUpTest, ACancelledSyncIsNotTheCatchUp) {
  CommitOne();
  JoinServing(2, {});
  Settle();
  ASSERT_TRUE(CatchesUp());
  kit.On(ControlCall{5, "cancel", ValueMap{{"label", uint64_t{7}}}});
  EXPECT_EQ(kit.replies.back().status.code(), StatusCode::kNotFound);
  kit.On(ControlCall{6, "cancel", {}});
  EXPECT_EQ(kit.replies.back().status.code(), StatusCode::kNotFound);
  kit.From(trainer, SyncCancel{"default", 7});
  EXPECT_TRUE(CatchesUp());
  kit.On(ControlCall{7, "shutdown", {}});
  kit.AnswerAll();
  EXPECT_FALSE(kit.runs());
}

// Found by the simulation: they were asked together, and neither ever got anything.
TEST_F(CatchUpTest, WhomNoTransportReachesKeepsNobodyFromIt) {
  JoinServing(0, {.epoch = 3});
  SendRows(JoinServing(1, {.epoch = 3}));
  JoinServing(2, {.transports = {{.kind = "far"}}});
  JoinServing(3, {});
  Settle();
  SendRows(Id("worker-0"));
  ASSERT_TRUE(CatchesUp());
  kit.AnswerAll();
  EXPECT_EQ(VersionOf("worker-3"), "1.3");
  Settle();
  EXPECT_FALSE(kit.runs());
  EXPECT_EQ(StandingOf("worker-2"), "behind");
  EXPECT_TRUE(kit.machine.NextDeadline().has_value()) << "it is tried again";
  kit.On(ControlCall{1, "members", {}});
  EXPECT_NE(kit.replies.back().body.ToString(10'000).find("offers no transport"),
            std::string::npos);
  // One that reaches it comes.
  JoinServing(4, {.epoch = 3, .transports = {{.kind = "far"}}});
  kit.now += Seconds(31);
  kit.On(Tick{});
  Settle();
  SendRows(Id("worker-4"));
  ASSERT_TRUE(CatchesUp());
  EXPECT_EQ(kit.machine.epoch()->catch_up->provider.name, "worker-4");
  kit.AnswerAll();
  EXPECT_EQ(VersionOf("worker-2"), "1.3");
}

}  // namespace
}  // namespace packcast
