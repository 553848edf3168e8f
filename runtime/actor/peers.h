#pragma once

#include <poll.h>

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "protocol/batch.h"
#include "protocol/frame.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/call_table.h"
#include "runtime/actor/connections.h"
#include "runtime/actor/future.h"
#include "runtime/actor/link.h"
#include "runtime/actor/lives.h"
#include "runtime/base/log.h"
#include "runtime/net/connection_probe.h"
#include "runtime/net/zap_server.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

class Node;

// The connections of a node: its ROUTER, a DEALER per endpoint it connected to, and a Link per
// peer's life; hellos, beats, and what becomes of a peer. Owned by the reactor; its thread only, in
// its turn (Open: before the thread starts, Close: after it has ended), but for TransmitNow.
class Peers {
 public:
  Peers(Node* node, net::ZmqContext* context);
  ~Peers();

  // Binds as the options say; the real endpoint, or "".
  StatusOr<std::string> Open();
  void Close();

  // To sleep until something comes: appends what to poll, and takes what that said, in the same
  // order. Not while is_drained() is false: then something has come, or may have.
  void AppendPollItems(std::vector<pollfd>* items);
  void TakePolled(std::span<const pollfd> items);
  bool is_drained();
  // Handles what has come, up to a bound per socket.
  void Receive();
  // All of it in one: sleeps until something comes, at most so long.
  void AwaitAndReceive(int milliseconds);
  // Sends beats and judges silence, when due.
  void Tick(Time now);
  Time NextDue(Time now) const;

  // Queues a message that has its room in the link's queue.
  void Transmit(Outgoing&& message);
  // On any thread that has the reactor's turn: hands a message to ZeroMQ at once. False, and the
  // message is untouched, when it must go the usual way. `has_come`: the reactor must look.
  bool TransmitNow(Outgoing* message, bool* has_come);
  // Sends what is queued, as far as ZeroMQ has room.
  void FlushAll();
  // A reply for which the peer has left no room in the link by which its call came.
  void SendLate(Outgoing reply);
  void Connect(const std::string& endpoint, std::string actor, Time deadline,
               Promise<ActorRef> promise);
  void Watch(const std::shared_ptr<Cell>& watcher, const ActorRef& ref);
  void Unwatch(const Cell* watcher, const ActorRef& ref);
  // `watcher`, which watches it, has told `ref` that they are linked, or no longer.
  static void NoteLink(const ActorRef& watcher, const ActorRef& ref, bool on);
  // A process of ours has this incarnation: how it ended will be told, and is waited for (a moment)
  // before a lost connection counts as its death.
  void ExpectObituary(Incarnation node);
  void Obituary(Incarnation node, const std::string& cause);
  // Nobody will tell: it goes on without its owner.
  void ForgetObituary(Incarnation node);
  // That endpoint serves with our own keys.
  void HasOurKeys(const std::string& endpoint);
  // Tells all peers that this process may not answer until then, or that it does again.
  void SayBusy(uint64_t number, Time until, const std::string& why);
  void EndBusy(uint64_t number);
  // Tells all peers that a life of an actor of ours has ended, and which one follows (0: none).
  void AnnounceEnd(const FrameAddress& life, const Status& why, Incarnation next);
  // Tells all peers that we leave, and fails what waits.
  void Goodbye();

 private:
  using Links = std::unordered_map<std::string, std::shared_ptr<Link>>;

  struct PendingConnect {
    std::string actor;
    Time deadline;
    Promise<ActorRef> promise;
    bool is_due = true;  // a hello for it must be sent
    Status last_error;
    Time asked_at{};  // when one was
  };
  // One DEALER and whom it reaches.
  struct Channel {
    std::string endpoint;
    net::ZmqSocket monitor;  // outlives the socket: see ZmqSocket::OpenMonitor
    net::ZmqSocket socket;
    std::shared_ptr<Link> link;  // null until the first welcome
    std::vector<PendingConnect> connects;
    bool is_connected = false;
    bool is_hello_due = false;
    Status superseded;    // not OK: a later life of this node took our place there, for good
    Incarnation earlier;  // the life of this node whose place we take there
    int failed_tries = 0;
    bool has_address = false;  // there was one to try
    uint64_t connections = 0;  // so far
    // When libzmq does not connect again by itself, a new socket must.
    std::optional<Time> reopen_at;
    Duration reopen_wait{};         // the last one; 0: none since it was connected
    std::optional<Time> ended_at;   // of a connection, and no sign of the next try since
    int failed_handshakes = 0;      // in a row
    bool is_refusal_known = false;  // logged; until it is connected
  };
  // Where a message came from.
  struct Source {
    std::string routing_id;             // at the ROUTER
    const net::Frame* frame = nullptr;  // of the message, there, that knows its connection
    Channel* channel = nullptr;         // or this DEALER
    std::shared_ptr<Link> link;         // null before the hello
  };

  // peers_send.cc: what leaves.
  net::ZmqSocket& SocketOf(const Link& link) {
    return link.dealer == nullptr ? router_ : *link.dealer;
  }
  net::SendResult SendOn(Link* link, const Outgoing& message);
  void Unsend(const Outgoing& message);
  bool SendFront(const std::shared_ptr<Link>& link);
  bool FinishFront(const std::shared_ptr<Link>& link, size_t count, size_t bytes,
                   net::SendResult result);
  bool Redirect(Outgoing* reply, bool has_room_here);
  void DropReply(const Outgoing& reply);
  void Flush(const std::shared_ptr<Link>& link);
  void Refuse(const Outgoing& message, Status status);
  void TransmitOwn(Outgoing message);
  // Why what goes to it fails.
  static Status StatusFor(const Link& link);

  // peers.cc: beats, states.
  void SetState(const std::shared_ptr<Link>& link, LinkState state, const std::string& cause);
  bool GiveUpSent(const std::shared_ptr<Link>& link, CallId id);
  void FailCalls(const std::shared_ptr<Link>& link);
  void Shun(const std::shared_ptr<Link>& link);
  void CountWards();
  void Lost(const std::shared_ptr<Link>& link);
  // How a process of ours ended, if that is known; else `otherwise`.
  std::string EndOf(const Link& link, const std::string& otherwise) const;
  void Bury(const std::shared_ptr<Link>& link);
  void ConfirmLoss(const std::shared_ptr<Link>& link);
  void ConfirmLosses(Time now);
  // The same life has connected anew: it has not died, but what was in flight before is lost.
  void ForgetLoss(const std::shared_ptr<Link>& link);
  // This process did not run for so long, now or a moment ago, that peers may have closed what was
  // silent to them.
  bool HasSlept(Time now) const;
  void Judge(const std::shared_ptr<Link>& link, Time now);
  void SendBeats(bool also_scripts);
  void ForEachLink(const std::function<void(const std::shared_ptr<Link>&)>& visit);
  static bool IsForgotten(const Link& link, Time now);
  bool IsOver(const Channel& channel, Time now);
  void Purge(Time now);

  // peers_leave.cc: goodbyes.
  net::SendResult SendBye(Link* link);
  bool SayGoodbye(const std::shared_ptr<Link>& link);
  void OnBye(const std::shared_ptr<Link>& link, const Envelope& envelope);

  // peers_poll.cc: when to look at which socket.
  template <class Visit>
  void ForEachSocket(const Visit& visit);

  // peers_busy.cc: those that will not answer for a while.
  void AddBusy(Time now, ValueMap* beat);
  void OnBusy(const std::shared_ptr<Link>& link, const Value& beat);
  static void TellWatcherBusy(Link::Watch* watch, const Link& link);
  void TellBusy(Link* link);

  // peers_door.cc: whom the ROUTER lets in.
  Status OpenDoor(const std::string& endpoint);
  // True: there may be more.
  bool ReceiveDoor();
  void ProbeLinks();
  void MindScanners(Time now);
  void OnAccepted(int fd);
  void OnAcceptFailed(int error);
  void SendAway(const Connections::Connection& connection, const std::string& why);
  void TickDoor(Time now);
  void Welcome(const Source& source);
  // It sent what it may not.
  void NoteBad(const Source& source);

  // peers_connect.cc: our DEALERs.
  StatusOr<Channel*> ChannelTo(const std::string& endpoint);
  Status OpenSocket(Channel* channel);
  void OnConnected(Channel* channel);
  void OnTurnedAway(Channel* channel, bool is_about_curve);
  void NoteRefusal(Channel* channel, bool is_sure, const std::string& why);
  void EndConnection(Channel* channel);
  void ReopenWhenDue(Channel* channel, Time now);
  void ReceiveMonitor(Channel* channel);
  void SendHellos(Channel* channel);
  void OnWelcome(Channel* channel, const Hello& hello);
  void OnRefused(Channel* channel, const Envelope& envelope, const Value& body);
  void OnHelloRefused(Channel* channel, const Envelope& envelope, const Status& named);
  static void OnEarlier(Channel* channel, const Value& body);
  void OnUnknownThere(Channel* channel, const Status& why);
  void OnCallRefused(const Link* link, CallId id, const Status& why);
  void OnSuperseded(Channel* channel, const Status& why);
  void AdoptLink(Channel* channel, const Hello& hello);
  void TickConnects(Time now);
  Status ConnectError(const Channel& channel, const PendingConnect& connect) const;
  net::SocketOptions BaseOptions() const;

  // peers_watch.cc: who watches actors there.
  static PeerEvent::Kind EventFor(LinkState state);
  void TellLinks(const std::shared_ptr<Link>& link);
  void AskFates(const std::shared_ptr<Link>& link);
  // `known`: the watches' life when the question was put.
  void OnFate(const std::shared_ptr<Link>& link, const ActorRef& ref, Incarnation known,
              const StatusOr<Value>& fate);
  static void Reopen(const std::shared_ptr<Link>& link, const ActorRef& ref);
  static void ReopenAll(const std::shared_ptr<Link>& link);
  static Link::Watch* FindWatch(const Cell* watcher, const ActorRef& ref);
  static bool IsBehind(const Link::Watch& watch);
  static void TellState(Link::Watch* watch, LinkState state, const std::string& cause);
  static void TellRestart(Link::Watch* watch, const std::string& cause);
  static void TellWatchersOfLink(Link* link, const std::string& cause);
  static void TellMissed(Link* link);
  static void OnActorBye(const std::shared_ptr<Link>& link, const Envelope& envelope,
                         const std::string& cause);

  // peers_hello.cc: who may come in.
  void OnHello(Source& source, const Envelope& envelope, std::string_view body);
  Status CheckHello(const Source& source, const Hello& hello);
  // A new one.
  std::shared_ptr<Link> MakeLink(const std::string& routing_id, const Hello& hello);
  // `link` takes the place of `old`, which was the same life.
  static void Inherit(const std::shared_ptr<Link>& old, const std::shared_ptr<Link>& link);
  std::shared_ptr<Link> LinkFor(const std::string& routing_id, const Hello& hello);
  void RefuseMessage(const Source& source, const Envelope& envelope);
  void RefuseSuperseded(const Link& link);
  static Status NoIncarnation();

  // peers_inbound.cc: what arrives.
  void ReceiveRouter();
  void ReceiveChannel(Channel* channel);
  void OnFrames(Source source, std::span<net::Frame> frames, size_t first);
  void OnEnvelope(Source& source, Envelope envelope, WireBody&& body);
  void OnUnknown(const Source& source, const Envelope& partial, const Status& error);
  void OnBatch(const Source& source, std::string_view bytes);
  // Of a link that is there: what may come in a batch, too.
  void OnLinked(const std::shared_ptr<Link>& link, const Envelope& envelope,
                const std::shared_ptr<Cell>& to, WireBody&& body);
  void OnCallOrTell(const std::shared_ptr<Link>& link, const Envelope& envelope,
                    const std::shared_ptr<Cell>& to, WireBody&& body);
  bool IsRepeated(const std::shared_ptr<Link>& link, const Envelope& envelope);
  static Status TakeRoom(const std::shared_ptr<Link>& link, const Envelope& envelope, size_t bytes,
                         HeldRoom* room);
  void OnReply(const std::shared_ptr<Link>& link, const Envelope& envelope, const WireBody& body);
  void OnBeat(const Source& source, std::string_view body);
  void Answer(const Source& source, const Envelope& envelope, const Value& body);
  void Malformed(const Source& source, const Status& why);
  void ServeZap();
  ActorRef Sender(const std::shared_ptr<Link>& link, const FrameAddress& from);

  Node* const node_;
  net::ZmqContext* const context_;
  std::optional<net::ZapServer> zap_;  // with keys
  Connections connections_;            // of the ROUTER
  std::optional<net::ConnectionProbe> probe_;
  LogLimiter door_log_;
  std::string listens_at_;  // "" where that is no TCP
  bool defers_accepts_ = false;
  net::ZmqSocket router_monitor_;
  net::ZmqSocket router_;
  Links links_;  // at the ROUTER, by routing id
  // Of each life of a node; scripts, which may share names, are told apart by their connections.
  std::map<std::pair<std::string, Incarnation>, std::weak_ptr<PeerRoom>> rooms_;
  Lives lives_;
  std::list<Channel> channels_;                 // stable addresses
  std::vector<std::shared_ptr<Link>> waiting_;  // with a backlog
  BatchWriter batch_;                           // empty between sends
  int taken_ = 0;                               // messages received from a socket in its turn
  std::vector<Time> probes_;  // when to see who is gone, after a connection has closed
  Time last_probe_;           // when that was done last
  bool is_leaving_ = false;
  struct BusyTime {
    Time until;
    std::string why;
  };
  std::map<uint64_t, BusyTime> busy_;  // this process, by the numbers of its periods
  // Links whose closed connection is a death, unless a goodbye turns up until it is due. In the
  // order of their loss, which is that of their news.
  struct Loss {
    std::shared_ptr<Link> link;
    Time due;
  };
  std::vector<Loss> losses_;
  std::set<std::string> with_our_keys_;       // endpoints
  std::map<Incarnation, std::string> wards_;  // processes of ours, and how they ended: "" not yet
  Time next_beat_;
  Time last_tick_;
  Time slept_until_;  // for long, the last time
  LogLimiter malformed_log_;
};

}  // namespace packcast::internal
