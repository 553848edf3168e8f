#include "protocol/contract.h"

#include <algorithm>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "protocol/fields.h"
#include "protocol/messages.h"

namespace packcast {
namespace {

MemberOffer Trainer(uint32_t rank = 0) {
  MemberOffer offer{
      {"trainer/" + std::to_string(rank), Incarnation(1)}, Role::kTrainer, "t", rank, {}};
  offer.offer.transports = {{.kind = "zmq"}};
  return offer;
}

MemberOffer Worker(uint32_t number, uint64_t buffer_bytes_max = 0) {
  MemberOffer offer{{"worker/" + std::to_string(number), Incarnation(1)},
                    Role::kWorker,
                    "r" + std::to_string(number / 2),
                    number % 2,
                    {}};
  offer.offer.transports = {{.kind = "zmq"}};
  offer.offer.install_modes = {InstallMode::kStaged};
  offer.offer.buffer_bytes_max = buffer_bytes_max;
  return offer;
}

std::vector<std::string> Names(const Contract& contract) {
  std::vector<std::string> out;
  for (const FlowMember& member : contract.flows.front().members) out.push_back(member.member.name);
  return out;
}

std::vector<TransportOffer> Kinds(const std::vector<std::string>& kinds) {
  std::vector<TransportOffer> offers;
  for (const std::string& kind : kinds) offers.push_back({.kind = kind});
  return offers;
}

// For a manifest of ten rows.
StatusOr<Contract> Decide(const ContractPolicy& policy, const std::vector<MemberOffer>& offers) {
  return MakeContract(policy, offers, 10);
}

void ExpectRefused(const ContractPolicy& policy, const std::vector<MemberOffer>& offers,
                   const std::vector<std::string>& parts) {
  const Status status = Decide(policy, offers).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status;
  }
}

TEST(Contract, IsTheMinimumOfPolicyAndOffers) {
  ContractPolicy policy;
  EXPECT_EQ(Decide(policy, {Trainer(), Worker(0)})->buffer_bytes, policy.buffer_bytes);
  std::vector<MemberOffer> offers = {Trainer(), Worker(0, 1 << 20), Worker(1, 5000)};
  offers[1].offer.buffer_count_max = 1;
  offers[2].offer.buffer_count_max = 7;
  const Contract contract = Decide(policy, offers).value();
  EXPECT_EQ(contract.buffer_bytes, 5000u - 5000 % 256);
  EXPECT_EQ(contract.buffer_count, 1u);
  policy.buffer_bytes = 1024;
  EXPECT_EQ(Decide(policy, offers)->buffer_bytes, 1024u);
}

TEST(Contract, TheTrainersLimitCountsToo) {
  MemberOffer trainer = Trainer();
  trainer.offer.buffer_bytes_max = 512;
  EXPECT_EQ(Decide({}, {trainer, Worker(0, 1024)})->buffer_bytes, 512u);
}

TEST(Contract, MembersComeTrainerFirstThenByUnitAndRank) {
  const Contract contract =
      Decide({}, {Worker(3), Worker(0), Trainer(1), Worker(2), Trainer(0), Worker(1)}).value();
  // Trainer ranks but 0 hold nothing to send: they are in no flow.
  EXPECT_EQ(Names(contract), (std::vector<std::string>{"trainer/0", "worker/0", "worker/1",
                                                       "worker/2", "worker/3"}));
  EXPECT_EQ(contract.flows.front().root, 0u);
  EXPECT_EQ(contract.flows.front().members[4].unit, "r1");
}

TEST(Contract, DoesNotDependOnTheOrderOfOffers) {
  std::mt19937_64 rng(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<MemberOffer> offers = {Trainer(0), Trainer(1)};
    for (uint32_t k = 0; k < 1 + rng() % 8; ++k) {
      MemberOffer worker = Worker(k, rng() % 3 == 0 ? 0 : 256 + rng() % 100000);
      worker.offer.buffer_count_max = static_cast<uint32_t>(rng() % 5);
      worker.offer.transports[0].direct_bytes_min = rng() % 4;
      offers.push_back(worker);
    }
    offers[0].offer.transports[0].direct_bytes_min = rng() % 3;
    const Contract first = Decide({}, offers).value();
    uint64_t smallest = limits::kBufferBytesDefault;
    uint32_t fewest = limits::kBufferCountDefault;
    for (const MemberOffer& o : offers) {
      if (o.offer.buffer_bytes_max > 0) smallest = std::min(smallest, o.offer.buffer_bytes_max);
      if (o.offer.buffer_count_max > 0) fewest = std::min(fewest, o.offer.buffer_count_max);
    }
    EXPECT_EQ(first.buffer_bytes, smallest - smallest % 256);
    EXPECT_EQ(first.buffer_count, fewest);
    for (int k = 0; k < 5; ++k) {
      std::shuffle(offers.begin(), offers.end(), rng);
      EXPECT_EQ(ToValue(*Decide({}, offers)), ToValue(first));
    }
  }
}

TEST(Contract, OneRankWithoutDirectRowsTurnsThemOff) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0), Worker(1)};
  offers[0].offer.transports[0].direct_bytes_min = 100;
  offers[1].offer.transports[0].direct_bytes_min = 300;
  offers[2].offer.transports[0].direct_bytes_min = 200;
  EXPECT_EQ(Decide({}, offers)->flows.front().direct_bytes_min, 300u);
  offers[2].offer.transports[0].direct_bytes_min = 0;
  EXPECT_EQ(Decide({}, offers)->flows.front().direct_bytes_min, 0u);
}

// "transport: root > worker worker [rows]" of each flow.
std::vector<std::string> FlowTexts(const Contract& contract) {
  std::vector<std::string> texts;
  for (const Flow& flow : contract.flows) {
    std::string text = flow.transport + ": ";
    for (const FlowMember& member : flow.members) {
      text += member.member.name + (member.role == Role::kTrainer ? " >" : " ");
    }
    for (const RowRange& rows : flow.rows) {
      text += "[" + std::to_string(rows.begin) + "," + std::to_string(rows.end) + ")";
    }
    texts.push_back(text);
  }
  return texts;
}
using Texts = std::vector<std::string>;

TEST(Contract, EachTransportTakesTheWorkersThatOfferIt) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0), Worker(1), Worker(2), Worker(3)};
  offers[0].offer.transports = Kinds({"shm@a", "zmq"});
  offers[1].offer.transports = Kinds({"shm@b", "zmq"});
  offers[2].offer.transports = Kinds({"shm@a", "zmq"});
  offers[3].offer.transports = Kinds({"zmq"});
  offers[4].offer.transports = Kinds({"zmq", "shm@a"});
  EXPECT_EQ(FlowTexts(*Decide({}, offers)),
            (Texts{"shm@a: trainer/0 >worker/1 worker/3 ", "zmq: trainer/0 >worker/0 worker/2 "}));
  EXPECT_EQ(FlowTexts(*Decide({.transport = "zmq"}, offers)),
            (Texts{"zmq: trainer/0 >worker/0 worker/1 worker/2 worker/3 "}));
  offers[3].offer.transports = Kinds({"nccl"});
  ExpectRefused({}, offers,
                {"no transport reaches worker/2 from trainer/0",
                 "\"zmq\" is not offered by worker/2 (it offers nccl)"});
  EXPECT_EQ(CheckFlows(*Decide({.transport = "zmq"}, {Trainer(), Worker(0)})), OkStatus());
}

TEST(Contract, ATransportForFewTakesAllWorkersOrNone) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0), Worker(1)};
  offers[0].offer.transports = {{.kind = "peer@a", .receivers_max = 1}, {.kind = "nccl"}};
  offers[1].offer.transports = offers[0].offer.transports;
  offers[2].offer.transports = Kinds({"nccl"});
  EXPECT_EQ(FlowTexts(*Decide({}, offers)), (Texts{"nccl: trainer/0 >worker/0 worker/1 "}));
  offers.pop_back();
  EXPECT_EQ(FlowTexts(*Decide({}, offers)), (Texts{"peer@a: trainer/0 >worker/0 "}));
}

TEST(Contract, ARowsRootIsTheFirstRankThatHoldsIt) {
  std::vector<MemberOffer> offers = {Trainer(0), Trainer(1), Trainer(2), Worker(0), Worker(1)};
  offers[0].held = {{0, 3}, {8, 10}};
  offers[1].held = {{2, 6}};
  EXPECT_EQ(FlowTexts(*Decide({}, offers)), (Texts{"zmq: trainer/0 >worker/0 worker/1 [0,3)[8,10)",
                                                   "zmq: trainer/1 >worker/0 worker/1 [3,6)",
                                                   "zmq: trainer/2 >worker/0 worker/1 [6,8)"}));
  offers[2].held = std::vector<RowRange>{};
  ExpectRefused({}, offers, {"row 6 is held by no trainer rank"});
  offers[0].held.reset();
  EXPECT_EQ(FlowTexts(*Decide({}, offers)), Texts{"zmq: trainer/0 >worker/0 worker/1 "});
  offers[0].held = std::vector<RowRange>{};
  offers[1].held = {{0, 10}};
  EXPECT_EQ(FlowTexts(*Decide({}, offers)), Texts{"zmq: trainer/1 >worker/0 worker/1 "});
  offers[1].held = {{0, 11}};
  EXPECT_NE(
      Decide({}, offers).status().message().find("trainer/1 says that it holds rows up to 11"),
      std::string::npos);
  offers[1].held = {{4, 10}, {0, 4}};
  EXPECT_EQ(Decide({}, offers).status().code(), StatusCode::kInvalidArgument);
}

TEST(Contract, RowsAndTransportsMakeAFlowEach) {
  std::vector<MemberOffer> offers = {Trainer(0), Trainer(1), Worker(0), Worker(1)};
  for (MemberOffer& offer : offers) offer.offer.transports = Kinds({"shm@a", "zmq"});
  offers[0].held = {{0, 5}};
  offers[2].offer.transports = Kinds({"zmq"});
  EXPECT_EQ(FlowTexts(*Decide({}, offers)),
            (Texts{"shm@a: trainer/0 >worker/1 [0,5)", "zmq: trainer/0 >worker/0 [0,5)",
                   "shm@a: trainer/1 >worker/1 [5,10)", "zmq: trainer/1 >worker/0 [5,10)"}));
}

TEST(Contract, EveryFlowHasBuffersOfItsOwnInAMembersMemory) {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  std::vector<MemberOffer> offers = {Trainer(0), Trainer(1), Worker(0)};
  offers[2].offer.memory_free = 256 * kMiB;
  EXPECT_EQ(Decide({}, offers)->buffer_bytes, 128 * kMiB);
  offers[0].held = {{0, 5}};
  EXPECT_EQ(Decide({}, offers)->buffer_bytes, 64 * kMiB);
}

TEST(Contract, WhatCameOverTheWireIsChecked) {
  const Contract good = Decide({}, {Trainer(), Worker(0)}).value();
  EXPECT_EQ(CheckFlows(good), OkStatus());
  const auto refused = [&](auto change) {
    Contract contract = good;
    change(&contract);
    return CheckFlows(contract).code() != StatusCode::kOk;
  };
  EXPECT_TRUE(refused([](Contract* c) { c->flows.clear(); }));
  EXPECT_TRUE(refused([](Contract* c) { c->flows.front().root = 2; }));
  EXPECT_TRUE(refused([](Contract* c) { c->flows.front().id = FlowId(1); }));
  EXPECT_TRUE(refused([](Contract* c) { c->flows.front().rows = {{3, 3}}; }));
  EXPECT_TRUE(refused([](Contract* c) {
    c->flows.push_back(c->flows.front());
    c->flows.back().id = FlowId(1);
  }));
  EXPECT_TRUE(refused([](Contract* c) { c->flows.resize(limits::kFlows + 1, c->flows.front()); }));
}

TEST(Contract, TransportIsTheFirstOfTheRootsThatAllOffer) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0), Worker(1)};
  offers[0].offer.transports = Kinds({"ipc", "zmq"});
  offers[1].offer.transports = Kinds({"zmq", "ipc", "nccl"});
  offers[2].offer.transports = Kinds({"zmq", "ipc"});
  EXPECT_EQ(Decide({}, offers)->flows.front().transport, "ipc");
  EXPECT_EQ(Decide({.transport = "zmq"}, offers)->flows.front().transport, "zmq");
  ExpectRefused({.transport = "nccl"}, offers,
                {"\"nccl\" is not offered by trainer/0", "it offers ipc, zmq"});
  offers[0].offer.transports = Kinds({"nccl", "ipc"});
  ExpectRefused({.transport = "nccl"}, offers,
                {"\"nccl\" is not offered by worker/1", "it offers zmq, ipc"});
  offers[2].offer.transports = {};
  ExpectRefused({}, offers, {"no transport reaches worker/1", "worker/1 (it offers none)"});
}

TEST(Contract, EveryWorkerMustOfferTheInstallMode) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0), Worker(1)};
  offers[1].offer.install_modes = {InstallMode::kInPlace, InstallMode::kStaged};
  EXPECT_EQ(Decide({}, offers)->install, InstallMode::kStaged);
  ExpectRefused({.install = InstallMode::kInPlace}, offers, {"worker/1", "in-place"});
}

TEST(Contract, LibrariesMustBeEqualEverywhere) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0)};
  offers[0].offer.transports = {{.kind = "nccl", .library = "2.28.9"}};
  offers[1].offer.transports = {{.kind = "nccl", .library = "2.28.3"}};
  ExpectRefused({}, offers, {"trainer/0 has \"2.28.9\"", "worker/0 has \"2.28.3\""});
  offers[1].offer.transports[0].library = "2.28.9";
  EXPECT_TRUE(Decide({}, offers).ok());
}

TEST(Contract, ATransportForFewReceiversIsLeftWhenThereAreMore) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0)};
  for (MemberOffer& o : offers) {
    o.offer.transports = {{.kind = "peer", .receivers_max = 1}, {.kind = "nccl"}};
  }
  EXPECT_EQ(Decide({}, offers)->flows.front().transport, "peer");
  offers.push_back(Worker(1));
  offers.back().offer.transports = offers.front().offer.transports;
  EXPECT_EQ(Decide({}, offers)->flows.front().transport, "nccl");
  ExpectRefused({.transport = "peer"}, offers, {"for 1 receivers, and there are 2"});
}

TEST(Contract, SeveralReceiversPassOnWhereAllOfferIt) {
  const TransportOffer chain = {.kind = "peer", .receivers_max = 3, .relays = true};
  std::vector<MemberOffer> offers = {Trainer(), Worker(0)};
  for (MemberOffer& o : offers) o.offer.transports = {chain, {.kind = "nccl"}};
  EXPECT_FALSE(Decide({}, offers)->flows.front().relays) << "nobody to pass it on to";
  for (uint32_t k = 1; k < 3; ++k) {
    offers.push_back(Worker(k));
    offers.back().offer.transports = offers.front().offer.transports;
  }
  const Flow flow = Decide({}, offers)->flows.front();
  EXPECT_EQ(flow.transport, "peer");
  EXPECT_TRUE(flow.relays);
  offers[2].offer.transports[0].relays = false;
  EXPECT_FALSE(Decide({}, offers)->flows.front().relays);
  offers[2].offer.transports[0].receivers_max = 1;
  EXPECT_EQ(Decide({}, offers)->flows.front().transport, "nccl");
}

TEST(Contract, ChainsOfTwoRootsGoBothWays) {
  const TransportOffer chain = {.kind = "peer", .relays = true};
  std::vector<MemberOffer> offers = {Trainer(0), Trainer(1), Worker(0), Worker(1), Worker(2)};
  offers[0].held = {{0, 5}};
  offers[1].held = {{5, 10}};
  for (MemberOffer& o : offers) o.offer.transports = {chain};
  const auto orders = [&] {
    std::vector<std::string> names;
    const Contract contract = Decide({}, offers).value();
    for (const Flow& flow : contract.flows) {
      std::string& order = names.emplace_back();
      for (const FlowMember& member : flow.members) order += member.member.name + " ";
    }
    return names;
  };
  const std::string workers = "worker/0 worker/1 worker/2 ";
  EXPECT_EQ(orders(), (std::vector<std::string>{"trainer/0 " + workers,
                                                "trainer/1 worker/2 worker/1 worker/0 "}));
  for (MemberOffer& o : offers) o.offer.transports[0].relays = false;
  EXPECT_EQ(orders(), (std::vector<std::string>{"trainer/0 " + workers, "trainer/1 " + workers}));
}

TEST(Contract, AChainGoesRoundFromTheRoot) {
  Flow flow;
  flow.members.resize(4);
  flow.root = 2;
  for (uint32_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(flow.FeederOf(rank), 2u);
    EXPECT_EQ(flow.Feeds(rank), rank == 2);
  }
  flow.relays = true;
  EXPECT_EQ(flow.FeederOf(2), 2u);
  EXPECT_EQ(flow.FeederOf(3), 2u);
  EXPECT_EQ(flow.FeederOf(0), 3u);
  EXPECT_EQ(flow.FeederOf(1), 0u);
  EXPECT_TRUE(flow.Feeds(2) && flow.Feeds(3) && flow.Feeds(0));
  EXPECT_FALSE(flow.Feeds(1));
}

TEST(Contract, TheFewestBlocksThatAnyoneAllowsAreTaken) {
  std::vector<MemberOffer> offers = {Trainer(), Worker(0)};
  EXPECT_EQ(Decide({}, offers)->flows.front().cta_count_max, 0u);
  offers[0].offer.transports[0].cta_count_max = 24;
  offers[1].offer.transports[0].cta_count_max = 8;
  EXPECT_EQ(Decide({}, offers)->flows.front().cta_count_max, 8u);
}

TEST(Contract, BuffersFitIntoTheMemoryThatIsLeft) {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  std::vector<MemberOffer> offers = {Trainer(), Worker(0)};
  offers[1].offer.memory_free = 1024 * kMiB;
  offers[1].offer.transports[0].device_bytes = 870 * kMiB;
  // 154 MiB are left for 2 buffers.
  EXPECT_EQ(Decide({}, offers)->buffer_bytes, 64 * kMiB);
  // What it has in buffers may be used again; a connected transport takes nothing more.
  offers[1].offer.memory_free = 26 * kMiB;
  offers[1].offer.memory_held = 128 * kMiB;
  offers[1].offer.transports[0].device_bytes = 0;
  EXPECT_EQ(Decide({}, offers)->buffer_bytes, 64 * kMiB);
  EXPECT_EQ(Decide({.buffer_bytes = 32 * kMiB}, offers)->buffer_bytes, 32 * kMiB);
  offers[1].offer.memory_free = 4096 * kMiB;
  EXPECT_EQ(Decide({}, offers)->buffer_bytes, limits::kBufferBytesDefault);
  offers[1].offer.memory_free = 100;
  offers[1].offer.memory_held = 0;
  offers[1].offer.transports[0].needs_buffers = false;
  EXPECT_EQ(Decide({}, offers)->buffer_bytes, limits::kBufferBytesDefault);
  offers[1].offer.transports[0].needs_buffers = true;
  ExpectRefused({}, offers, {"the memory of worker/0 (100 bytes free"});
}

TEST(Contract, TooSmallABufferNamesWhoWantsIt) {
  ExpectRefused({}, {Trainer(), Worker(0, 255)}, {"the offer of worker/0", "at least 256"});
  ExpectRefused({.buffer_bytes = 100}, {Trainer(), Worker(0)}, {"the policy"});
}

TEST(Contract, ARankOffersOnlySoManyTransportsWithSuchNames) {
  MemberOffer worker = Worker(0);
  worker.offer.transports.resize(limits::kTransports, {.kind = "zmq"});
  EXPECT_EQ(Decide({}, {Trainer(), worker}).status(), OkStatus());
  worker.offer.transports.push_back({.kind = "zmq"});
  ExpectRefused({}, {Trainer(), worker}, {"worker/0 offers 65 transports", "at most 64"});
  const std::string longer(limits::kNameBytes + 1, 'n');
  worker.offer.transports = {{.kind = "zmq"}, {.kind = longer}};
  ExpectRefused({}, {Trainer(), worker}, {"worker/0", "more than 256 bytes"});
  MemberOffer trainer = Trainer();
  trainer.offer.transports.front().library = longer;
  ExpectRefused({}, {trainer, Worker(0)}, {"trainer/0", "more than 256 bytes"});
}

TEST(Contract, NeedsATrainer) {
  ExpectRefused({}, {}, {"nobody"});
  ExpectRefused({}, {Worker(0)}, {"no trainer"});
}

TEST(InstallMode, NamesGoThereAndBack) {
  EXPECT_EQ(*InstallModeFromName("staged"), InstallMode::kStaged);
  EXPECT_EQ(*InstallModeFromName(InstallModeName(InstallMode::kInPlace)), InstallMode::kInPlace);
  EXPECT_EQ(*InstallModeFromName("in_place"), InstallMode::kInPlace);
  EXPECT_FALSE(InstallModeFromName("").ok());
}

}  // namespace
TEST(PlanOptionsOfTest, SmallModelsTakeSmallerBuffersAndLargeOnesTheAgreedSize) {
  const auto buffer_bytes = [](int64_t model_bytes, uint64_t agreed, Layout layout) {
    Contract contract;
    contract.buffer_bytes = agreed;
    contract.layout = layout;
    contract.flows.resize(1);
    const Manifest manifest =
        Manifest::Make({Row{.name = "w", .dtype = Dtype::kU8, .shape = {model_bytes}}}).value();
    return PlanOptionsOf(contract, contract.flows[0], manifest).buffer_bytes;
  };
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  EXPECT_EQ(buffer_bytes(1, 1024 * kMiB, Layout::kAligned), kMiB);
  EXPECT_EQ(buffer_bytes(1, 512, Layout::kAligned), 512u);
  EXPECT_EQ(buffer_bytes(80 * kMiB + 7, 1024 * kMiB, Layout::kAligned), 10 * kMiB);
  EXPECT_EQ(buffer_bytes(80 * kMiB, 4 * kMiB, Layout::kAligned), 4 * kMiB);
  EXPECT_EQ(buffer_bytes(1024 * kMiB, 256 * kMiB, Layout::kAligned), 128 * kMiB);
  EXPECT_EQ(buffer_bytes(4095 * kMiB, 256 * kMiB, Layout::kAligned), 128 * kMiB);
  EXPECT_EQ(buffer_bytes(4800 * kMiB, 256 * kMiB, Layout::kAligned), 150 * kMiB);
  EXPECT_EQ(buffer_bytes(8192 * kMiB, 256 * kMiB, Layout::kAligned), 256 * kMiB);
  EXPECT_EQ(buffer_bytes(16384 * kMiB, 256 * kMiB, Layout::kAligned), 256 * kMiB);
  EXPECT_EQ(buffer_bytes(1, 1024 * kMiB, Layout::kCompat), 1024 * kMiB);
}

}  // namespace packcast
