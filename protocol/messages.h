#pragma once

#include <string_view>
#include <variant>

#include "protocol/coordinator_messages.h"
#include "protocol/member_messages.h"
#include "protocol/status.h"
#include "protocol/value.h"

// The messages between a coordinator and its members, as plain structs. The envelope around them
// (frame.h) carries both incarnations. docs/protocol.md is normative; names and meanings are
// stable, fields may be added. Each struct's `kName` is the method on the wire.
namespace packcast {

using MemberMessage = std::variant<JoinCluster, LeaveCluster, SyncCall, SyncCancel, ManifestPart,
                                   OfferReply, Prepared, Refused, GenerationJoined, Quiesced,
                                   Progress, Staged, Failed, Installed, Halted, AttemptAborted>;
using CoordinatorMessage =
    std::variant<Welcome, Expelled, SyncWanted, ManifestPart, Propose, Prepare, RendezvousBlob,
                 Quiesce, Start, Commit, AbortAttempt, Drain, SyncDone, Shutdown, ManifestWanted,
                 PeerBusy>;

std::string_view MessageName(const MemberMessage& message);
std::string_view MessageName(const CoordinatorMessage& message);

// Whether `name` is a message from members, whatever its body holds.
bool IsMemberMessage(std::string_view name);

// Bodies as Values. Decoding errors name the message and field; an unknown name is
// kUnimplemented. Thread-safe.
Value MessageBody(const MemberMessage& message);
Value MessageBody(const CoordinatorMessage& message);
StatusOr<MemberMessage> DecodeMemberMessage(std::string_view name, const Value& body);
StatusOr<CoordinatorMessage> DecodeCoordinatorMessage(std::string_view name, const Value& body);

// XXH3-128 of the contract's encoding.
Digest ContractDigest(const Contract& contract);
Value OfferToValue(const Offer& offer);

}  // namespace packcast
