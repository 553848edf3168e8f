#pragma once

// A trainer or a worker as a process that does what its supervisor (member_process.h) tells it on
// its channel. A command is a verb and arguments with blanks between; each has one answer, which
// begins with "VERB ok" or "VERB error". The first answer comes unasked, once the weights are in
// place and CUDA is up: "ready ok" or "ready error WHY".
//
//   join ADDRESS       comes into the cluster of the coordinator there
//   leave              goes, in good order; the process stays, and may join again
//   arm [SPEC]         sets failpoints (runtime/base/failpoint_actions.h)
//   sync LABEL MS      trainer: Trainer::Sync with this deadline
//   digest             worker: "ok HEX", the content of the memory that serves, read back
//   usage              "ok NUMBERS": usage.h
//   held               worker: "ok BYTES BYTES": of the sink and of the ballast
//   fill MIB           worker: leaves that much of the device free once its sink is bound
//   bare-up ID RANK    half of a bare communicator (bare_communicator.h)
//   bare-down          "ok BEFORE CONNECTED WARM AFTER": bytes of the device in use
//   leak               opens a descriptor and forgets it
namespace packcast::trial {

// The first argument of a process that is a member.
inline constexpr char kMemberWord[] = "--member";

// Until the supervisor goes away. The exit status.
int RunMember(int argc, char** argv);

}  // namespace packcast::trial
