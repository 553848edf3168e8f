// Which generations a member keeps, joins and closes.
#include "gtest/gtest.h"

#include "actors/member_machine.h"
#include "tests/actors/machine_kit.h"

namespace packcast {
namespace {

TEST(MemberGenerations, ReusesItsGenerationAndContractInTheSteadyState) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToServing(Key(1));
  worker.On(CoordinatorMessage(
      Propose{Key(2), 6, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  const MemberEffects effects = worker.On(CoordinatorMessage(
      Prepare{Key(2), 6, worker.manifest->digest(), ContractDigest(worker.contract), std::nullopt,
              Generations(1, true)}));
  EXPECT_NE(Effect<PrepareAttempt>(effects), nullptr);
  EXPECT_EQ(Effect<CloseGeneration>(effects), nullptr);
  worker.On(PrepareDone{Key(2), OkStatus(), Digest{1, 2}, {}, ""});
  EXPECT_NE(Effect<StartStream>(worker.On(CoordinatorMessage(Start{Key(2)}))), nullptr);
}

// trainer-0 sends to worker-0 over zmq, trainer-1 the other rows.
TEST(MemberGenerations, KeepsAGenerationAsLongAsItsFlowNeedsIt) {
  MemberKit worker(Role::kWorker);
  Flow second = worker.contract.flows.front();
  second.id = FlowId(1);
  second.members.front().member = Id("trainer-1");
  worker.contract.flows.push_back(second);
  worker.Join();
  for (ManifestPart& part : ManifestParts(*worker.manifest)) {
    worker.On(CoordinatorMessage(std::move(part)));
  }
  const auto prepare = [&](uint64_t epoch, std::vector<FlowGeneration> generations) {
    worker.On(CoordinatorMessage(
        Propose{Key(epoch), epoch, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
    return worker.On(CoordinatorMessage(Prepare{Key(epoch), epoch, worker.manifest->digest(),
                                                ContractDigest(worker.contract), worker.contract,
                                                std::move(generations)}));
  };
  const auto finish = [&](uint64_t epoch) {
    worker.On(GenerationsReady{Key(epoch), OkStatus()});
    worker.On(CoordinatorMessage(Start{Key(epoch)}));
    worker.On(StreamDone{Key(epoch), OkStatus(), Digest{3, 4}, 1024, {}, ""});
    worker.On(CoordinatorMessage(Commit{Key(epoch)}));
    worker.On(InstallDone{Key(epoch), OkStatus()});
  };
  prepare(1, {{GenerationId(1), false}, {GenerationId(2), false}});
  worker.On(PrepareDone{Key(1), OkStatus(), Digest{1, 2}, {}, ""});
  const MemberEffects joins =
      worker.On(CoordinatorMessage(RendezvousBlob{Key(1), {Found(0), Found(1)}}));
  EXPECT_EQ(Effect<JoinGenerations>(joins)->rendezvous.size(), 2u);
  finish(1);
  EXPECT_EQ(worker.machine.generations().size(), 2u);

  const MemberEffects second_epoch =
      prepare(2, {{GenerationId(1), true}, {GenerationId(3), false}});
  EXPECT_EQ(Effect<CloseGeneration>(second_epoch)->generation, GenerationId(2));
  worker.On(PrepareDone{Key(2), OkStatus(), Digest{1, 2}, {}, ""});
  // Of a flow that lives already: a blob has no business there.
  MemberKit confused = worker;
  EXPECT_EQ(
      Sent<Failed>(confused.On(CoordinatorMessage(RendezvousBlob{Key(2), {Found(0)}})))->phase,
      "rendezvous");
  worker.On(CoordinatorMessage(RendezvousBlob{Key(2), {Found(1)}}));
  finish(2);
  EXPECT_EQ(worker.machine.generations(),
            (std::vector<GenerationId>{GenerationId(1), GenerationId(3)}));
  EXPECT_EQ(worker.invariants, OkStatus());
}

// Each coordinator counts generations from 1: those of an earlier one have the same numbers.
TEST(MemberGenerations, GenerationsOfAnEarlierCoordinatorAreNotReused) {
  const Term later{2, 9};
  for (const bool asks_for_reuse : {false, true}) {
    MemberKit worker(Role::kWorker);
    worker.Join();
    worker.ToServing(Key(1));
    worker.On(CoordinatorLost{"killed"});
    worker.On(CoordinatorUp{});
    worker.On(CoordinatorMessage(Welcome{"default", later}));
    Flow others = worker.contract.flows.front();
    others.members.back().member = Id("worker-1");
    others.transport = "shm";
    worker.contract.flows.push_back(others);
    worker.contract.flows.back().id = FlowId(1);
    const EpochKey key = Key(2, 1, later);
    worker.On(CoordinatorMessage(
        Propose{key, 6, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
    // Generation 1 is that of the others, and lives for them; or so it is said of ours.
    const MemberEffects effects = worker.On(CoordinatorMessage(Prepare{
        key,
        6,
        worker.manifest->digest(),
        ContractDigest(worker.contract),
        worker.contract,
        {{GenerationId(asks_for_reuse ? 1 : 2), asks_for_reuse}, {GenerationId(1), true}}}));
    EXPECT_EQ(Effect<CloseGeneration>(effects)->generation, GenerationId(1));
    EXPECT_EQ(Sent<Failed>(effects) != nullptr, asks_for_reuse);
    EXPECT_TRUE(worker.machine.generations().empty());
  }
}

TEST(MemberGenerations, RefusesAContractWithoutAGenerationForEachFlow) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  for (ManifestPart& part : ManifestParts(*worker.manifest)) {
    worker.On(CoordinatorMessage(std::move(part)));
  }
  worker.On(CoordinatorMessage(
      Propose{Key(1), 5, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  const MemberEffects effects = worker.On(CoordinatorMessage(Prepare{
      Key(1), 5, worker.manifest->digest(), ContractDigest(worker.contract), worker.contract, {}}));
  EXPECT_NE(Sent<Failed>(effects)->status.message.find("1 flows, and there are generations for 0"),
            std::string::npos);
}

TEST(MemberGenerations, CannotReuseAGenerationThatAnAbortRetired) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  worker.Abort(Key(1));
  worker.On(AbortDone{Key(1)});
  worker.On(CoordinatorMessage(
      Propose{Key(2), 6, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  const MemberEffects effects = worker.On(CoordinatorMessage(
      Prepare{Key(2), 6, worker.manifest->digest(), ContractDigest(worker.contract),
              worker.contract, Generations(1, true)}));
  EXPECT_EQ(Sent<Failed>(effects)->phase, "prepare");
}

TEST(MemberGenerations, TriesAgainOnANewGeneration) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  worker.Abort(Key(1));
  worker.On(AbortDone{Key(1)});
  const MemberEffects effects = worker.On(CoordinatorMessage(
      Prepare{Key(1, 2), 5, worker.manifest->digest(), ContractDigest(worker.contract),
              worker.contract, Generations(2, false)}));
  EXPECT_NE(Effect<PrepareAttempt>(effects), nullptr);
}

}  // namespace
}  // namespace packcast
