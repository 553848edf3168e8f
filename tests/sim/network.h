#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/messages.h"
#include "tests/sim/world.h"

namespace packcast::sim {

// Who stands at the ends. Calls come on the receiving process, never while it is dead or frozen.
class NetworkUser {
 public:
  virtual ~NetworkUser() = default;
  virtual void OnMemberMessage(Process* coordinator, Incarnation to, const MemberId& from,
                               MemberMessage message) = 0;
  virtual void OnCoordinatorMessage(Process* member, Incarnation to, Incarnation from,
                                    CoordinatorMessage message) = 0;
  // What the node of each end notices. A member is Up when a session exists (again).
  virtual void OnCoordinatorUp(Process* member, const Process* coordinator) = 0;
  virtual void OnCoordinatorLost(Process* member, const std::string& cause) = 0;
  virtual void OnMemberLost(Process* coordinator, const MemberId& member, const Status& cause) = 0;
  // A member that was lost is heard again, in the same life.
  virtual void OnMemberBack(Process* coordinator, const MemberId& member) = 0;
};

// The connections between coordinators and members, failing as ZeroMQ over TCP really does: order
// is kept, a message is lost only when a connection breaks, with all after it and without a word to
// its sender; what was sent to one life may arrive at the next; what a frozen process had queued
// goes out when it thaws; sends to unknown peers vanish; a frozen peer or a cut link is noticed
// after about a second, a dead process at once; and each end notices by itself, so that one may
// while the other does not. What is assumed of the runtime: when messages were lost between two
// lives, at least one end notices.
//
// One coordinator has the address that members dial. Who has a connection to another one keeps it
// as long as it holds.
class Network {
 public:
  struct Options {
    double late = 0;       // the chance that a message, and what follows it, takes milliseconds
    bool repeats = false;  // connections remember what they carried, for Replay
  };
  Network(World* world, NetworkUser* user, const Options& options)
      : world_(world), user_(user), options_(options) {}

  // `coordinator` (which may be null) is now the one that members dial.
  void SetCoordinator(Process* coordinator);
  // Connects as soon as that is possible.
  void Dial(Process* member);
  // The coordinator that it has a connection to, if it has one.
  const Process* CoordinatorOf(const Process* member);

  void Send(Process* member, MemberMessage message);
  void Send(Process* coordinator, const MemberId& to, CoordinatorMessage message);

  void OnKilled(Process* process);
  void OnFrozen(Process* process);
  void OnThawed(Process* process);
  // Cuts one or both directions between coordinators and a name; Heal ends both.
  void Cut(const std::string& name, bool to_member, bool to_coordinator);
  void Heal(const std::string& name);
  // The same of one life, either end's.
  void CutLife(const Process* process);
  void HealLife(const Process* process);
  // The same of one coordinator and a name; HealPairs: of it and all.
  void CutPair(const std::string& name, const Process* coordinator, bool to_member,
               bool to_coordinator);
  void HealPairs(const Process* coordinator);
  // The connection breaks and is made again at once; the end of what was under way is lost.
  void Flap(const std::string& name);
  // The same, and some of what it had carried comes once more.
  void Replay(const std::string& name);

 private:
  template <class Message>
  struct Lane {
    struct Sent {
      Time due;
      Message message;
    };
    std::deque<Sent> sent;
    size_t held = 0;  // of its end: still in the sender, which is frozen
    Time last_due{};
    bool armed = false;
    bool cut = false;
    std::deque<Message> carried;  // the last ones
  };
  // One connection between two lives.
  struct Link {
    Process* member = nullptr;
    Process* coordinator = nullptr;
    Lane<MemberMessage> up;         // to the coordinator
    Lane<CoordinatorMessage> down;  // to the member
    bool member_sees = false;
    bool coordinator_sees = false;
    bool left = false;  // the member's end is closed: it dials another coordinator
    bool closed = false;
  };
  struct Partition {
    bool down = false;
    bool up = false;
    void Add(const Partition& other) {
      down = down || other.down;
      up = up || other.up;
    }
  };

  template <class Message>
  void Push(Link* link, Lane<Message>* lane, Message message);
  template <class Message>
  void Pump(Link* link, Lane<Message>* lane);
  template <class Message>
  void Deliver(Link* link, Lane<Message>* lane);
  // Drops the end of what is under way, now and then hands it to the receiver's next life.
  template <class Message>
  size_t LoseSuffix(Lane<Message>* lane, std::deque<Message>* leftovers);
  template <class Message>
  void LoseHeld(Lane<Message>* lane);
  template <class Message>
  void HoldBack(Lane<Message>* lane);
  template <class Message, class Again>
  void RepeatSome(const Lane<Message>& lane, Process* receiver, Again again);
  void Hand(Link* link, MemberMessage message);
  void Hand(Link* link, CoordinatorMessage message);

  void TryDial(Process* member);
  void Redial();
  void Establish(Process* member, Process* coordinator);
  Link* LinkOf(const Process* member);
  // network_faults.cc
  void Leave(Link* link);
  void MemberNotices(Link* link, Duration after, const std::string& cause);
  void CoordinatorNotices(Link* link, Duration after, const Status& cause);
  void MemberSeesAgain(Link* link);
  void CoordinatorSeesAgain(Link* link);
  void SeeAgain(Link* link, Duration low, Duration high);
  void WatchSilence(Link* link, bool at_member);
  bool Silent(const Link& link, bool at_member) const;
  // Losses between two living ends: somebody must notice.
  void NoticeLoss(Link* link);
  void KillEnd(Link* link, bool member_died);
  Partition CutOf(const Process* member, const Process* coordinator) const;
  // After a cut or a healing.
  void Recut();
  void OnHealed(Link* link);
  Duration Latency() { return world_->random.Between(Microseconds(20), Microseconds(400)); }

  World* const world_;
  NetworkUser* const user_;
  const Options options_;
  Process* coordinator_ = nullptr;
  std::deque<Link> links_;
  std::vector<Process*> waiting_;  // cannot connect now
  std::map<std::string, Partition> cut_names_;
  std::map<const Process*, Partition> cut_lives_;
  std::map<std::pair<const Process*, std::string>, Partition> cut_pairs_;
  // Sent to a life that ended: they come to the next one of that name.
  struct LateUp {
    Incarnation to;
    MemberId from;
    MemberMessage message;
  };
  struct LateDown {
    Incarnation to;
    Incarnation from;
    CoordinatorMessage message;
  };
  std::map<std::string, std::vector<LateUp>> late_up_;      // by member name
  std::map<std::string, std::vector<LateDown>> late_down_;  // by member name
};

}  // namespace packcast::sim
