#include "tests/runtime/sim/network.h"

#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "protocol/frame.h"
#include "runtime/base/check.h"
#include "tests/runtime/sim/descriptors.h"

namespace packcast::rtsim {
namespace {

// How long ZeroMQ takes to take a connection's pipe up or down.
constexpr Duration kPipeDelay = Milliseconds(1);
// What its I/O thread takes.
constexpr Duration kIoDelay = Microseconds(30);
constexpr Duration kHeartbeat = Milliseconds(500);
constexpr Duration kPatienceMin = Milliseconds(1500);
constexpr Duration kPatienceMax = Milliseconds(2000);

// For people.
std::string NameOf(const Message& message) {
  const StatusOr<Envelope> envelope = DecodeEnvelope(message.front());
  if (!envelope.ok()) return "something else";
  std::string name(FrameKindName(envelope->kind));
  if (!envelope->to.actor.empty()) name += " to " + envelope->to.actor;
  if (!envelope->from.actor.empty()) name += " from " + envelope->from.actor;
  if (envelope->call_id.value != 0) name += " " + std::to_string(envelope->call_id.value);
  return name + " " + envelope->method;
}

}  // namespace

Network* Network::current_ = nullptr;

Network::Network(Kernel* kernel, const Weather& weather) : kernel_(kernel), weather_(weather) {
  current_ = this;
}

Network::~Network() { current_ = nullptr; }

End& Network::PeerOf(const End& end) { return end.connection->ends[1 - end.side]; }

void Network::Note(std::string_view what, const End& end) {
  kernel_->Note(end.process->name, what, static_cast<uint64_t>(end.side), [&] {
    const End& peer = PeerOf(end);
    return (end.side == 0 ? "to " : "from ") + peer.process->name + ", to be read " +
           std::to_string(end.in.size()) + ", sent " + std::to_string(end.out.size()) +
           ", on the way " + std::to_string(end.connection->wires[end.side].items.size());
  });
}

Socket* Network::Find(uint64_t id) {
  const auto found = sockets_.find(id);
  return found == sockets_.end() ? nullptr : found->second.get();
}

Duration Network::Soon(Duration most) { return kernel_->random().Between(Duration(0), most); }

bool Network::IsStalled(const End& from, const End& to) const {
  return to.process->is_frozen || stalled_.count({from.process->name, to.process->name}) != 0;
}

void Network::ForEach(const std::function<void(const Shared&)>& visit) {
  std::erase_if(connections_, [](const Shared& c) {
    return !c->ends[0].is_open && !c->ends[1].is_open && c->ends[0].socket == nullptr &&
           c->ends[1].socket == nullptr;
  });
  const std::vector<Shared> all = connections_;
  for (const Shared& connection : all) visit(connection);
}

// --- What happens between two processes.

void Network::Kick(const Shared& connection, int side, Time when) {
  Wire& wire = connection->wires[side];
  if (wire.next <= when) return;
  wire.next = when;
  kernel_->At(when, [this, connection, side, when] {
    Wire& kicked = connection->wires[side];
    if (kicked.next != when) return;
    kicked.next = Time::max();
    Pump(connection, side);
  });
}

void Network::PutOnWire(End* end, Wire::Item item) {
  Wire& wire = end->connection->wires[end->side];
  Duration latency = kernel_->random().Between(weather_.latency_min, weather_.latency_max);
  if (kernel_->random().Chance(weather_.spike)) latency += Soon(weather_.spike_max);
  wire.last = item.when = std::max(wire.last, kernel_->now() + latency);
  wire.items.push_back(std::move(item));
}

void Network::Pump(const Shared& connection, int side) {
  Leave(connection, side);
  Arrive(connection, side);
  End& from = connection->ends[side];
  Wire& wire = connection->wires[side];
  const bool has_room = wire.items.size() < weather_.wire_messages;
  if (!from.out.empty() && has_room) Kick(connection, side, kernel_->now() + Soon(kIoDelay));
}

// From the process to the wire.
void Network::Leave(const Shared& connection, int side) {
  End& from = connection->ends[side];
  Wire& wire = connection->wires[side];
  if (!from.is_open || from.process->is_frozen || connection->is_cut) return;
  while (!from.out.empty() && wire.items.size() < weather_.wire_messages) {
    PutOnWire(&from, {.message = std::move(from.out.front())});
    from.out.pop_front();
  }
  if (from.is_full && from.socket != nullptr &&
      from.out.size() <= from.socket->send_high_water / 2) {
    from.is_full = false;
    Signal(from.socket);
  }
  if (from.socket == nullptr && from.out.empty()) CloseEnd(connection, side);
}

// From the wire into the process.
void Network::Arrive(const Shared& connection, int side) {
  End& from = connection->ends[side];
  End& to = connection->ends[1 - side];
  std::deque<Wire::Item>& items = connection->wires[side].items;
  while (!items.empty() && !IsStalled(from, to)) {
    Wire::Item& item = items.front();
    if (item.when > kernel_->now()) return Kick(connection, side, item.when);
    if (item.is_end) {
      CloseEnd(connection, 1 - side);
    } else if (!to.is_open || to.socket == nullptr) {
      ++lost_;
    } else {
      if (to.in.size() >= to.socket->receive_high_water) return;  // until it reads
      ++delivered_;
      kernel_->Note(to.process->name, "arrives", item.message.size(), [&] {
        return (to.side == 0 ? "to " : "from ") + from.process->name + ": " + NameOf(item.message);
      });
      to.heard_at = kernel_->now();
      to.in.push_back(std::move(item.message));
      if (to.is_passive && !std::exchange(to.has_news, true)) Signal(to.socket);
    }
    items.pop_front();
  }
}

void Network::CloseEnd(const Shared& connection, int side) {
  End& end = connection->ends[side];
  if (!end.is_open) return;
  Note("closed", end);
  end.is_open = false;
  lost_ += end.out.size();
  end.out.clear();
  if (!connection->is_cut) {
    PutOnWire(&end, {.is_end = true});
    Kick(connection, side, kernel_->now());
  }
  if (end.socket == nullptr) return;
  Tell(end.socket, ZMQ_EVENT_DISCONNECTED);
  kernel_->At(kernel_->now() + Soon(kPipeDelay),
              [this, connection, side] { TakePipe(connection, side); });
  if (end.socket->type == Socket::Type::kDealer) TryLater(end.socket, false);
}

// The application can send no more. A ROUTER still reads what has come.
void Network::TakePipe(const Shared& connection, int side) {
  End& end = connection->ends[side];
  if (end.socket == nullptr || !end.has_pipe) return;
  Note("pipe down", end);
  end.has_pipe = false;
  if (end.socket->type == Socket::Type::kDealer) {
    lost_ += end.in.size();
    end.in.clear();
  }
  Signal(end.socket);
}

// --- Connections.

void Network::Try(uint64_t id) {
  Socket* const client = Find(id);
  if (client == nullptr || client->process->is_dead) return;
  const Duration waited = kernel_->now() - client->try_began;
  const auto again = [&] {
    constexpr Duration kLook = Milliseconds(20);
    kernel_->At(kernel_->now() + kLook, [this, id] { Try(id); });
  };
  if (client->process->is_frozen) return again();
  const auto listener = listeners_.find(client->endpoint);
  Socket* const server = listener == listeners_.end() ? nullptr : Find(listener->second);
  if (server == nullptr || refusing_.count(server->process->name) != 0) {
    return TryLater(client, true);
  }
  const auto is_stalled = [&](const Process* from, const Process* to) {
    return stalled_.count({from->name, to->name}) != 0;
  };
  const bool is_away =
      is_stalled(client->process, server->process) || is_stalled(server->process, client->process);
  constexpr Duration kConnectTimeout = Seconds(3);
  constexpr Duration kHandshakeTimeout = Seconds(5);
  if (is_away && waited >= kConnectTimeout) return TryLater(client, true);
  if (server->process->is_frozen && waited >= kHandshakeTimeout) return TryLater(client, true);
  if (is_away || server->process->is_frozen) return again();
  Establish(client, server);
}

void Network::TryLater(Socket* socket, bool has_failed) {
  if (has_failed) Tell(socket, ZMQ_EVENT_CLOSED);
  Duration wait = socket->reconnect_first;
  for (int k = 0; k < socket->tries && wait < socket->reconnect_max; ++k) wait *= 2;
  ++socket->tries;
  wait = std::min(wait, std::max(socket->reconnect_first, socket->reconnect_max)) + Soon(wait);
  const Time when = kernel_->now() + wait;
  kernel_->At(when, [this, id = socket->id, when] {
    if (Socket* again = Find(id)) again->try_began = when;
    Try(id);
  });
}

void Network::Establish(Socket* client, Socket* server) {
  auto connection = std::make_shared<Connection>();
  Socket* const sockets[2] = {client, server};
  for (int side = 0; side < 2; ++side) {
    End& end = connection->ends[side];
    end.connection = connection.get();
    end.side = side;
    end.process = sockets[side]->process;
    end.socket = sockets[side];
    end.heard_at = kernel_->now();
    end.patience = kernel_->random().Between(kPatienceMin, kPatienceMax);
    sockets[side]->connections.push_back(connection);
  }
  connections_.push_back(connection);
  client->tries = 0;
  connection->ends[1].peer_id = client->routing_id;
  Attach(connection, 1);
  Tell(client, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
  kernel_->At(kernel_->now() + Soon(kPipeDelay), [this, connection] { Attach(connection, 0); });
  kernel_->At(kernel_->now() + kHeartbeat, [this, connection] { Beat(connection); });
}

void Network::Attach(const Shared& connection, int side) {
  End& end = connection->ends[side];
  if (!end.is_open || end.socket == nullptr) return;
  // A new connection takes the place of an old one that has its routing id.
  if (side == 1) {
    for (const Shared& other : std::vector<Shared>(end.socket->connections)) {
      End& old = other->ends[1];
      if (other == connection || old.peer_id != end.peer_id || old.socket != end.socket) continue;
      lost_ += old.in.size();
      old.in.clear();
      old.has_pipe = false;
      CloseEnd(other, 1);
    }
  }
  Note("connected", end);
  end.has_pipe = true;
  Signal(end.socket);
}

// ZMTP's heartbeats, of both sides: who hears nothing closes the connection.
void Network::Beat(const Shared& connection) {
  bool is_open = false;
  for (int side = 0; side < 2; ++side) {
    End& end = connection->ends[side];
    if (!end.is_open) continue;
    is_open = true;
    const End& peer = PeerOf(end);
    if (end.process->is_frozen) continue;
    const bool is_heard = peer.is_open && !peer.process->is_frozen && !IsStalled(peer, end);
    if (is_heard) end.heard_at = kernel_->now();
    if (kernel_->now() - end.heard_at > end.patience) CloseEnd(connection, side);
  }
  if (!is_open) return;
  kernel_->At(kernel_->now() + kHeartbeat, [this, connection] { Beat(connection); });
}

// --- Faults.

void Network::Stall(const std::string& from, const std::string& to, bool on) {
  if (on) {
    stalled_.insert({from, to});
    return;
  }
  stalled_.erase({from, to});
  ForEach([&](const Shared& c) {
    for (int side = 0; side < 2; ++side) Kick(c, side, kernel_->now());
  });
}

void Network::Refuse(const std::string& host, bool on) {
  on ? (void)refusing_.insert(host) : (void)refusing_.erase(host);
}

void Network::Heal() {
  refusing_.clear();
  const auto stalled = stalled_;
  for (const auto& [from, to] : stalled) Stall(from, to, false);
}

void Network::Cut(const std::string& one, const std::string& other) {
  ForEach([&](const Shared& c) {
    const std::string& a = c->ends[0].process->name;
    const std::string& b = c->ends[1].process->name;
    if (!(a == one && b == other) && !(a == other && b == one)) return;
    if (std::exchange(c->is_cut, true)) return;
    for (int side = 0; side < 2; ++side) {
      // Of what is on its way some still comes.
      std::deque<Wire::Item>& items = c->wires[side].items;
      const size_t kept = kernel_->random().Below(items.size() + 1);
      lost_ += items.size() - kept;
      items.resize(kept);
      kernel_->At(kernel_->now() + Soon(kPipeDelay), [this, c, side] { CloseEnd(c, side); });
    }
  });
}

void Network::Crash(Process* process) {
  process->is_dead = true;
  process->gone_at = kernel_->now();
  std::erase_if(listeners_, [&](const auto& entry) {
    const Socket* const socket = Find(entry.second);
    return socket == nullptr || socket->process == process;
  });
  ForEach([&](const Shared& c) {
    for (int side = 0; side < 2; ++side) {
      if (c->ends[side].process == process) CloseEnd(c, side);
    }
  });
}

void Network::OnThaw(Process* process) {
  const Duration away = kernel_->now() - process->frozen_at;
  ForEach([&](const Shared& c) {
    for (int side = 0; side < 2; ++side) {
      End& end = c->ends[side];
      if (end.process == process) {
        // Its timers, or what has come meanwhile: either may be first.
        if (away > end.patience && kernel_->random().Chance(0.5)) {
          kernel_->At(kernel_->now() + Soon(kPipeDelay), [this, c, side] { CloseEnd(c, side); });
        }
        end.heard_at = kernel_->now();
      }
      Kick(c, side, kernel_->now());
    }
  });
}

}  // namespace packcast::rtsim
