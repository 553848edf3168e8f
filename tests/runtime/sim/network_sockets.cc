// What applications do with the sockets of a Network.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/runtime/sim/descriptors.h"
#include "tests/runtime/sim/network.h"

namespace packcast::rtsim {
namespace {

// How long ZeroMQ takes to tell its application what has become of a connection.
constexpr Duration kNewsDelay = Microseconds(300);
constexpr Duration kIoDelay = Microseconds(30);

}  // namespace

Socket* Network::Open(Socket::Type type) {
  auto socket = std::make_unique<Socket>();
  socket->id = ++last_socket_;
  socket->type = type;
  socket->process = kernel_->process();
  socket->fd = kernel_->descriptors().Open();
  Socket* const opened = socket.get();
  sockets_.emplace(opened->id, std::move(socket));
  return opened;
}

void Network::Close(Socket* socket) {
  for (const Shared& connection : socket->connections) {
    for (int side = 0; side < 2; ++side) {
      End& end = connection->ends[side];
      if (end.socket != socket) continue;
      end.socket = nullptr;
      // What was sent still goes, for as long as it may linger.
      Kick(connection, side, kernel_->now());
      kernel_->At(kernel_->now() + socket->linger,
                  [this, connection, side] { CloseEnd(connection, side); });
    }
  }
  std::erase_if(listeners_, [&](const auto& entry) { return entry.second == socket->id; });
  monitored_.erase(socket->monitored_as);
  kernel_->descriptors().Close(socket->fd);
  sockets_.erase(socket->id);
}

bool Network::Bind(Socket* socket, const std::string& endpoint) {
  if (!listeners_.emplace(endpoint, socket->id).second) return false;
  socket->endpoint = endpoint;
  return true;
}

void Network::Connect(Socket* socket, const std::string& endpoint) {
  socket->endpoint = endpoint;
  if (socket->type == Socket::Type::kPair) {
    Socket* const monitored = Find(monitored_.at(endpoint));
    monitored->monitor = socket->id;
    return;
  }
  socket->try_began = kernel_->now();
  kernel_->At(kernel_->now() + Soon(kNewsDelay), [this, id = socket->id] { Try(id); });
}

void Network::Monitor(Socket* socket, const std::string& endpoint) {
  socket->monitored_as = endpoint;
  monitored_[endpoint] = socket->id;
}

void Network::Tell(Socket* socket, int event) {
  if (socket->monitor == 0) return;
  socket->last_event = std::max(socket->last_event, kernel_->now() + Soon(kNewsDelay));
  kernel_->At(socket->last_event, [this, event, id = socket->monitor] {
    Socket* const monitor = Find(id);
    if (monitor == nullptr) return;
    const auto number = static_cast<uint16_t>(event);
    std::string bytes(6, '\0');
    std::memcpy(bytes.data(), &number, sizeof number);
    End& end = monitor->events;
    end.in.push_back({std::move(bytes), ""});
    if (end.is_passive && !std::exchange(end.has_news, true)) Signal(monitor);
  });
}

void Network::Signal(Socket* socket) { kernel_->descriptors().Raise(socket->fd); }

// The application calls: it takes note of what its I/O thread has told it.
void Network::Learn(Socket* socket) {
  kernel_->descriptors().Lower(socket->fd);
  const auto learn = [](End* end) {
    if (std::exchange(end->has_news, false)) end->is_passive = false;
  };
  learn(&socket->events);
  for (const Shared& connection : socket->connections) {
    for (End& end : connection->ends) {
      if (end.socket == socket) learn(&end);
    }
  }
}

// Whether a message may be sent, by a ROUTER to `peer_id`.
int Network::StartSend(Socket* socket, const std::string& peer_id) {
  Learn(socket);
  End* to = nullptr;
  for (const Shared& connection : socket->connections) {
    for (End& end : connection->ends) {
      if (end.socket == socket && end.has_pipe && end.peer_id == peer_id) to = &end;
    }
  }
  if (to == nullptr) return socket->type == Socket::Type::kRouter ? EHOSTUNREACH : EAGAIN;
  const size_t most =
      weather_.high_water != 0 ? weather_.high_water : std::max<size_t>(socket->send_high_water, 1);
  to->is_full = to->is_full || to->out.size() >= most;
  if (to->is_full) {
    Note("full", *to);
    return EAGAIN;
  }
  socket->sending_to = to;
  return 0;
}

void Network::FinishSend(Socket* socket) {
  End& end = *std::exchange(socket->sending_to, nullptr);
  Message message = std::exchange(socket->sending, {});
  // It may know that the connection has ended before its application does.
  if (!end.is_open) {
    ++lost_;
    return;
  }
  end.out.push_back(std::move(message));
  for (const Shared& connection : socket->connections) {
    if (connection.get() != end.connection) continue;
    return Kick(connection, end.side, kernel_->now() + Soon(kIoDelay));
  }
}

// Forgets connections that have ended and are read.
void Network::Prune(Socket* socket) {
  std::erase_if(socket->connections, [&](const Shared& connection) {
    for (End& end : connection->ends) {
      if (end.socket != socket || end.is_open || end.has_pipe || !end.in.empty()) continue;
      end.socket = nullptr;
      return true;
    }
    return false;
  });
}

// One that has something to read, after the application has been told of all that has come.
End* Network::Readable(Socket* socket) {
  std::vector<End*> readable;
  const auto look = [&](End* end) {
    if (end->is_passive) return;
    end->in.empty() ? (void)(end->is_passive = true) : readable.push_back(end);
  };
  if (socket->type == Socket::Type::kPair) look(&socket->events);
  for (const Shared& connection : socket->connections) {
    for (End& end : connection->ends) {
      if (end.socket == socket) look(&end);
    }
  }
  return readable.empty() ? nullptr : readable[kernel_->random().Below(readable.size())];
}

bool Network::HasCome(Socket* socket) {
  Learn(socket);
  return Readable(socket) != nullptr;
}

bool Network::Receive(Socket* socket, Message* message) {
  Learn(socket);
  Prune(socket);
  End* const end = Readable(socket);
  if (end == nullptr) return false;
  *message = std::move(end->in.front());
  end->in.pop_front();
  if (socket->type == Socket::Type::kRouter) message->insert(message->begin(), end->peer_id);
  if (end->connection == nullptr) return true;
  for (const Shared& connection : socket->connections) {
    if (connection.get() == end->connection) Kick(connection, 1 - end->side, kernel_->now());
  }
  return true;
}

}  // namespace packcast::rtsim
