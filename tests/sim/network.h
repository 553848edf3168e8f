#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
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
  virtual void OnCoordinatorUp(Process* member) = 0;
  virtual void OnCoordinatorLost(Process* member, const std::string& cause) = 0;
  virtual void OnMemberLost(Process* coordinator, const MemberId& member, const Status& cause) = 0;
  // A member that was lost is heard again, in the same life.
  virtual void OnMemberBack(Process* coordinator, const MemberId& member) = 0;
};

// The connections between one coordinator and its members, failing as ZeroMQ over TCP really does:
// order is kept, a message is lost only when a connection breaks, with all after it and without a
// word to its sender; what was sent to one life may arrive at the next; sends to unknown peers
// vanish; a frozen peer or a cut link is noticed after about a second, a dead process at once; and
// each end notices by itself, so that one may while the other does not. What is assumed of the
// runtime: when messages were lost between two lives, at least one end notices.
class Network {
 public:
  // `late`: the chance that a message, and what follows it on its way, takes milliseconds.
  Network(World* world, NetworkUser* user, double late) : world_(world), user_(user), late_(late) {}

  // `coordinator` (which may be null) is now the one that members dial.
  void SetCoordinator(Process* coordinator);
  // Connects as soon as that is possible.
  void Dial(Process* member);

  void Send(Process* member, MemberMessage message);
  void Send(Process* coordinator, const MemberId& to, CoordinatorMessage message);

  void OnKilled(Process* process);
  void OnFrozen(Process* process);
  void OnThawed(Process* process);
  // Cuts one or both directions between the coordinator and a name; Heal ends both.
  void Cut(const std::string& name, bool to_member, bool to_coordinator);
  void Heal(const std::string& name);
  // The connection breaks and is made again at once; the end of what was under way is lost.
  void Flap(const std::string& name);

 private:
  template <class Message>
  struct Lane {
    struct Sent {
      Time due;
      Message message;
    };
    std::deque<Sent> sent;
    Time last_due{};
    bool armed = false;
    bool cut = false;
  };
  // One connection between two lives.
  struct Link {
    Process* member = nullptr;
    Process* coordinator = nullptr;
    Lane<MemberMessage> up;         // to the coordinator
    Lane<CoordinatorMessage> down;  // to the member
    bool member_sees = false;
    bool coordinator_sees = false;
    bool closed = false;
  };
  struct Partition {
    bool down = false;
    bool up = false;
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
  void Hand(Link* link, MemberMessage message);
  void Hand(Link* link, CoordinatorMessage message);

  void TryDial(Process* member);
  void Redial();
  void Establish(Process* member, Process* coordinator);
  Link* LinkOf(const Process* member);
  void MemberNotices(Link* link, Duration after, const std::string& cause);
  void CoordinatorNotices(Link* link, Duration after, const Status& cause);
  void MemberSeesAgain(Link* link);
  void CoordinatorSeesAgain(Link* link);
  void SeeAgain(Link* link, Duration low, Duration high);
  void WatchSilence(Link* link, bool at_member);
  bool Silent(const Link& link, bool at_member) const;
  // Losses between two living ends: somebody must notice.
  void NoticeLoss(Link* link);
  Duration Latency() { return world_->random.Between(Microseconds(20), Microseconds(400)); }

  World* const world_;
  NetworkUser* const user_;
  const double late_;
  Process* coordinator_ = nullptr;
  std::deque<Link> links_;
  std::vector<Process*> waiting_;  // cannot connect now
  std::map<std::string, Partition> cuts_;
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
