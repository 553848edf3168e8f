// The part of Peers that connects to others and keeps those connections.
#include <algorithm>
#include <utility>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

namespace packcast::internal {
namespace {

// What a socket that closes may still take to send the goodbye.
constexpr Duration kGoodbyeLinger = Milliseconds(100);
// A listener that turned us away is asked again after so long, twice as long each time. The list of
// keys there may change, and a handshake costs it more than a refused connection.
constexpr Duration kReopenFirst = Milliseconds(100);
constexpr Duration kReopenMax = Seconds(5);
// libzmq says at once that it is going to connect again.
constexpr Duration kRetrySign = Seconds(1);
// After so long a hello is said again.
constexpr Duration kAskAgain = Seconds(1);

std::string RoutingId(const std::string& node, Incarnation incarnation) {
  static constexpr char kDigits[] = "0123456789abcdef";
  // ZeroMQ takes at most 255 bytes; the incarnation keeps cut names apart.
  std::string id = node.substr(0, 200) + "#";
  for (int shift = 60; shift >= 0; shift -= 4) {
    id.push_back(kDigits[(incarnation.value >> shift) & 0xf]);
  }
  return id;
}

// A refused hello helps when it is said again.
bool MayPass(const Status& refused) {
  return refused.code() == StatusCode::kNotFound || refused.code() == StatusCode::kUnavailable;
}

const std::string& ServerKey(const RuntimeKeys& keys) {
  return keys.server_public_key.empty() ? keys.public_key : keys.server_public_key;
}

}  // namespace

net::SocketOptions Peers::BaseOptions() const {
  net::SocketOptions options;
  options.linger = kGoodbyeLinger;
  return options;
}

StatusOr<std::string> Peers::Open() {
  const RuntimeOptions& options = node_->options();
  if (options.bind.empty()) return std::string();
  PC_RETURN_IF_ERROR(net::CheckBindEndpoint(options.bind));
  if (!net::IsLocalEndpoint(options.bind) && !options.keys && !options.insecure) {
    return PermissionDenied("binding " + options.bind +
                            " lets other machines in: give CURVE keys, or allow it with "
                            "RuntimeOptions::insecure (--insecure), or bind tcp://127.0.0.1:*");
  }
  net::SocketOptions socket_options = BaseOptions();
  if (options.keys) {
    const std::vector<std::string> own = {options.keys->public_key};
    const bool has_list = !options.keys->allowed.empty();
    PC_ASSIGN_OR_RETURN(zap_,
                        net::ZapServer::Open(*context_, has_list ? options.keys->allowed : own));
    socket_options.curve = net::CurveKeys{.is_server = true,
                                          .public_key = options.keys->public_key,
                                          .secret_key = options.keys->secret_key,
                                          .server_public_key = ""};
  }
  PC_ASSIGN_OR_RETURN(router_,
                      net::ZmqSocket::Open(*context_, net::SocketType::kRouter, socket_options));
  PC_ASSIGN_OR_RETURN(router_monitor_, router_.OpenMonitor(*context_));
  PC_ASSIGN_OR_RETURN(std::string endpoint, router_.Bind(options.bind, &router_monitor_));
  PC_RETURN_IF_ERROR(OpenDoor(endpoint));
  return endpoint;
}

StatusOr<Peers::Channel*> Peers::ChannelTo(const std::string& endpoint) {
  for (Channel& channel : channels_) {
    if (channel.endpoint == endpoint) return &channel;
  }
  Channel channel;
  channel.endpoint = endpoint;
  PC_RETURN_IF_ERROR(OpenSocket(&channel));
  channels_.push_back(std::move(channel));
  return &channels_.back();
}

// The channel's first socket, or one in the place of the last: links that it serves go on with it.
Status Peers::OpenSocket(Channel* channel) {
  const RuntimeOptions& options = node_->options();
  net::SocketOptions socket_options = BaseOptions();
  socket_options.routing_id = RoutingId(options.name, node_->incarnation());
  const bool is_ours = with_our_keys_.count(channel->endpoint) != 0;
  if (options.keys) {
    socket_options.curve = net::CurveKeys{
        .is_server = false,
        .public_key = options.keys->public_key,
        .secret_key = options.keys->secret_key,
        .server_public_key = is_ours ? options.keys->public_key : ServerKey(*options.keys)};
  }
  net::ZmqSocket monitor;  // outlives the socket: see ZmqSocket::OpenMonitor
  PC_ASSIGN_OR_RETURN(net::ZmqSocket socket,
                      net::ZmqSocket::Open(*context_, net::SocketType::kDealer, socket_options));
  PC_ASSIGN_OR_RETURN(monitor, socket.OpenMonitor(*context_));
  PC_RETURN_IF_ERROR(socket.Connect(channel->endpoint));
  channel->socket = std::move(socket);
  channel->monitor = std::move(monitor);
  return OkStatus();
}

void Peers::HasOurKeys(const std::string& endpoint) {
  constexpr size_t kMost = 65'536;  // of children that were
  if (!node_->options().keys) return;
  if (with_our_keys_.size() >= kMost) with_our_keys_.clear();
  with_our_keys_.insert(endpoint);
}

void Peers::Connect(const std::string& endpoint, std::string actor, Time deadline,
                    Promise<ActorRef> promise) {
  StatusOr<Channel*> channel = ChannelTo(endpoint);
  const Status usable = channel.ok() ? (*channel)->superseded : channel.status();
  if (!usable.ok()) {
    promise.Set(usable);
    return;
  }
  (*channel)->connects.push_back({std::move(actor), deadline, std::move(promise), true, Status()});
  SendHellos(*channel);
}

void Peers::ReceiveMonitor(Channel* channel) {
  net::MonitorEvent event;
  while (net::NextMonitorEvent(&channel->monitor, &event)) {
    switch (event.kind) {
      case net::MonitorEvent::Kind::kConnected: OnConnected(channel); break;
      case net::MonitorEvent::Kind::kDisconnected:
        EndConnection(channel);
        channel->ended_at = Now();
        break;
      case net::MonitorEvent::Kind::kTried:
        channel->has_address = true;
        channel->ended_at.reset();
        break;
      case net::MonitorEvent::Kind::kRetried:
        ++channel->failed_tries;
        channel->ended_at.reset();
        break;
      case net::MonitorEvent::Kind::kHandshakeFailed:
        // The first one may be that of a process that has just ended.
        NoteRefusal(channel, ++channel->failed_handshakes > 1,
                    "the ZeroMQ handshake with " + channel->endpoint +
                        " failed: it may want other CURVE keys");
        break;
      case net::MonitorEvent::Kind::kTurnedAway: OnTurnedAway(channel, event.is_about_curve); break;
      case net::MonitorEvent::Kind::kAccepted:
      case net::MonitorEvent::Kind::kAcceptFailed:
      case net::MonitorEvent::Kind::kBindFailed:
      case net::MonitorEvent::Kind::kOther: break;
    }
  }
}

void Peers::OnConnected(Channel* channel) {
  channel->is_connected = true;
  channel->is_hello_due = true;
  ++channel->connections;
  channel->reopen_wait = Duration(0);
  channel->ended_at.reset();
  channel->failed_handshakes = 0;
  if (std::exchange(channel->is_refusal_known, false)) {
    LogInfo("node ", node_->options().name, ": ", channel->endpoint, " lets us in now");
  }
  for (PendingConnect& connect : channel->connects) {
    connect.is_due = true;
    connect.last_error = OkStatus();
  }
}

void Peers::EndConnection(Channel* channel) {
  if (!std::exchange(channel->is_connected, false)) return;
  // What came before the end is handled first.
  ReceiveChannel(channel);
  if (channel->link) Lost(channel->link);
}

// The other side has ended the handshake, for a reason that libzmq takes for final.
void Peers::OnTurnedAway(Channel* channel, bool is_about_curve) {
  const bool has_keys = node_->options().keys.has_value();
  std::string why = "our public key is not on its list, or this is no packcast node";
  if (!has_keys) why = "this is no packcast node";
  if (is_about_curve) {
    why = has_keys ? "it has no CURVE keys, and we have" : "it has CURVE keys, and we have none";
  }
  NoteRefusal(channel, true, channel->endpoint + " turned us away: " + why);
  channel->reopen_wait = std::clamp(2 * channel->reopen_wait, kReopenFirst, kReopenMax);
  channel->reopen_at = Now() + channel->reopen_wait;
}

void Peers::NoteRefusal(Channel* channel, bool is_sure, const std::string& why) {
  for (PendingConnect& connect : channel->connects) {
    const bool is_known = connect.last_error.code() == StatusCode::kPermissionDenied;
    if (is_sure || !is_known) connect.last_error = PermissionDenied(why);
  }
  // Once, however long it lasts.
  if (!is_sure || std::exchange(channel->is_refusal_known, true)) return;
  LogWarning("node ", node_->options().name, ": ", why, "; we go on asking");
}

void Peers::ReopenWhenDue(Channel* channel, Time now) {
  // It ended by what the other side sent, such as a frame that is too long.
  const bool is_given_up =
      !channel->reopen_at && channel->ended_at && now - *channel->ended_at > kRetrySign;
  const bool is_due = channel->reopen_at && *channel->reopen_at <= now;
  if (!is_given_up && !is_due) return;
  channel->ended_at.reset();
  channel->reopen_at.reset();
  const Status opened = OpenSocket(channel);
  if (opened.ok()) return EndConnection(channel);
  LogWarning("node ", node_->options().name, ": connecting again: ", opened.message());
  channel->reopen_at = now + kReopenMax;
}

void Peers::SendHellos(Channel* channel) {
  if (!channel->superseded.ok()) channel->is_hello_due = false;
  if (!channel->is_connected || !channel->superseded.ok()) return;
  Envelope envelope;
  envelope.kind = FrameKind::kHello;
  Hello hello;
  hello.cluster = node_->options().cluster;
  hello.node = node_->options().name;
  hello.incarnation = node_->incarnation();
  hello.beats = true;
  hello.batches = true;
  hello.ranges = true;
  hello.connection = channel->connections;
  hello.earlier = channel->earlier;
  hello.beat_ms = ToMilliseconds(node_->options().beat_interval);
  const auto send = [&](const std::string& actor) {
    hello.actor = actor;
    net::Frames frames;
    frames.emplace_back(std::string_view(EncodeEnvelope(envelope)));
    frames.emplace_back(std::string_view(Encode(EncodeHello(hello))));
    return channel->socket.Send(&frames) == net::SendResult::kSent;
  };
  for (PendingConnect& connect : channel->connects) {
    if (!connect.is_due) continue;
    // Right after the connect event ZeroMQ may not have its pipe yet: the reactor tries again.
    if (!send(connect.actor)) {
      channel->is_hello_due = true;
      return;
    }
    connect.is_due = false;
    connect.asked_at = Now();
    // One for an actor that is not there is refused: it makes no session again.
    if (channel->link == nullptr) channel->is_hello_due = false;
  }
  if (channel->is_hello_due && send("")) channel->is_hello_due = false;
}

void Peers::AdoptLink(Channel* channel, const Hello& hello) {
  const std::shared_ptr<Link> old = channel->link;
  if (old != nullptr && !old->is_gone() && old->node == hello.node &&
      old->incarnation == hello.incarnation) {
    if (!old->connected.load()) ForgetLoss(old);
    old->connected.store(true);
    old->last_heard = Now();
    SetState(old, LinkState::kUp, "connected again");
    return;
  }
  const std::shared_ptr<Link> link = MakeLink("", hello);
  link->dealer = &channel->socket;
  channel->link = link;
  if (old == nullptr) return;
  // Given up by us, and back: what it has called already does not run again.
  if (old->node == hello.node && old->incarnation == hello.incarnation) {
    Inherit(old, link);
  }
  old->dealer = nullptr;
  old->last_sender = ActorRef();
  node_->ForgetPeerProgress(*old);
  SetState(old, LinkState::kDied,
           EndOf(*old, "a new incarnation of it answers at " + channel->endpoint));
  SetState(old, LinkState::kLeft, old->cause());  // final: it cannot come back
}

void Peers::OnWelcome(Channel* channel, const Hello& hello) {
  if (!channel->superseded.ok()) return;
  channel->failed_tries = 0;
  AdoptLink(channel, hello);
  channel->link->room->AddWay(channel->link);
  std::vector<PendingConnect> done;
  std::erase_if(channel->connects, [&](PendingConnect& connect) {
    if (connect.actor != hello.actor || hello.actor.empty()) return false;
    done.push_back(std::move(connect));
    return true;
  });
  for (PendingConnect& connect : done) {
    auto state =
        std::make_shared<RefState>(RefState{node_->shared_from_this(), connect.actor, hello.node,
                                            hello.actor_incarnation, nullptr, channel->link});
    connect.promise.Set(ActorRef(std::move(state)));
  }
}

void Peers::OnRefused(Channel* channel, const Envelope& envelope, const Value& body) {
  const Status why = envelope.status.ok() ? Internal("refused without a reason") : envelope.status;
  const Status named = why.WithContext(channel->endpoint + " refused");
  if (envelope.call_id.value != 0 && channel->link) {
    OnCallRefused(channel->link.get(), envelope.call_id, named);
  }
  if (why.code() == StatusCode::kStale) return OnSuperseded(channel, named);
  // What answers a hello names the actor that it asked for. Before the first welcome nothing but
  // hellos was sent.
  const bool is_about_hello = channel->link == nullptr || !envelope.from.actor.empty() ||
                              why.code() != StatusCode::kFailedPrecondition;
  if (!is_about_hello) return OnUnknownThere(channel, named);
  OnHelloRefused(channel, envelope, named);
  if (why.code() == StatusCode::kUnavailable) OnEarlier(channel, body);
}

// Another life of this node has the place there. What we say next names it: that shows that we are
// the later one, and alive.
void Peers::OnEarlier(Channel* channel, const Value& body) {
  const Value* const named = body.Find("earlier");
  Incarnation earlier;
  if (named == nullptr || !named->GetUint(&earlier.value)) return;
  // Else what is said already names it, and is said again in its time.
  if (std::exchange(channel->earlier, earlier) == earlier) return;
  for (PendingConnect& connect : channel->connects) connect.is_due = true;
  if (channel->link && !channel->link->connected.load()) channel->is_hello_due = true;
}

// The other side holds no session with us although the connection stands: it gave us up, or it is a
// new life. The session is lost, and the next beat says hello again.
void Peers::OnUnknownThere(Channel* channel, const Status& why) {
  const std::shared_ptr<Link> link = channel->link;
  if (link->connected.load()) SetState(link, LinkState::kDied, why.message());
}

void Peers::OnCallRefused(const Link* link, CallId id, const Status& why) {
  // One that may be sent again is, as soon as we are welcome.
  if (why.code() == StatusCode::kFailedPrecondition && node_->calls().IsIdempotent(id)) return;
  auto call = node_->calls().Take(id, link);
  if (!call) return;
  const Status named = why.WithContext("call of " + call->what);
  CallTable::Resolve(std::move(*call), named.WithOutcome(Outcome::kNotExecuted));
}

void Peers::OnSuperseded(Channel* channel, const Status& why) {
  if (!channel->superseded.ok()) return;
  channel->superseded = why;
  LogError("node ", node_->options().name, ": ", why.ToString());
  if (channel->link) SetState(channel->link, LinkState::kLeft, why.message());
  for (PendingConnect& connect : std::exchange(channel->connects, {})) connect.promise.Set(why);
}

void Peers::OnHelloRefused(Channel* channel, const Envelope& envelope, const Status& named) {
  std::vector<PendingConnect> refused;
  std::erase_if(channel->connects, [&](PendingConnect& connect) {
    if (!envelope.from.actor.empty() && connect.actor != envelope.from.actor) return false;
    connect.last_error = named;
    // The actor may be about to start, and after a lost hello another one helps.
    if (MayPass(named)) return false;
    refused.push_back(std::move(connect));
    return true;
  });
  for (PendingConnect& connect : refused) connect.promise.Set(named);
}

Status Peers::ConnectError(const Channel& channel, const PendingConnect& connect) const {
  if (!connect.last_error.ok()) return connect.last_error;
  if (channel.is_connected) {
    return DeadlineExceeded("connected to " + channel.endpoint +
                            ", but no welcome came: it is no packcast node, or it is stuck");
  }
  const char* const why = channel.has_address || channel.failed_tries == 0
                              ? "nothing listens there"
                              : "no IPv4 address of that host is known here";
  return Unavailable("cannot connect to " + channel.endpoint + ": " + why + " (" +
                     std::to_string(channel.failed_tries) + " tries failed)");
}

void Peers::TickConnects(Time now) {
  for (Channel& channel : channels_) {
    ReopenWhenDue(&channel, now);
    std::vector<std::pair<PendingConnect, Status>> expired;
    std::erase_if(channel.connects, [&](PendingConnect& connect) {
      // The answer may have found no room on its way.
      const bool was_lost = now - connect.asked_at >= kAskAgain;
      connect.is_due = connect.is_due || MayPass(connect.last_error) || was_lost;
      if (connect.deadline > now) return false;
      const Status error = ConnectError(channel, connect);
      expired.emplace_back(std::move(connect), error);
      return true;
    });
    for (auto& [connect, error] : expired) connect.promise.Set(error);
    // A session that ended on a connection that stands, or a welcome that was lost.
    const bool lacks_session = channel.link && !channel.link->connected.load();
    if (channel.is_connected && lacks_session) channel.is_hello_due = true;
  }
}

}  // namespace packcast::internal
