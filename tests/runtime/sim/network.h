#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "protocol/time.h"
#include "tests/runtime/sim/kernel.h"

namespace packcast::rtsim {

struct Connection;
struct Socket;

using Message = std::vector<std::string>;  // its frames

// One side of a connection: what its application, and its process's I/O thread, have of it.
struct End {
  Connection* connection = nullptr;
  int side = 0;  // of the connection: 0 has connected
  Process* process = nullptr;
  Socket* socket = nullptr;  // null: closed by its application
  std::string peer_id;       // the other one's routing id, at a ROUTER
  bool is_open = true;       // the connection, as seen from here
  bool has_pipe = false;     // the application can send
  bool is_full = false;
  std::deque<Message> in;   // come, not yet read by the application
  std::deque<Message> out;  // sent by the application, still in this process
  // The application has found `in` empty: what comes next raises its descriptor.
  bool is_passive = false;
  bool has_news = false;
  Time heard_at;
  Duration patience{};  // of the heartbeats
};

// What is on its way from one end to the other.
struct Wire {
  struct Item {
    Time when;
    bool is_end = false;  // of the connection
    Message message;
  };
  std::deque<Item> items;
  Time last;                // when the last of them comes
  Time next = Time::max();  // when it is looked at next
};

struct Connection {
  std::array<End, 2> ends;
  std::array<Wire, 2> wires;  // [k]: from ends[k]
  bool is_cut = false;
};

// What libzmq calls a socket.
struct Socket {
  enum class Type { kRouter, kDealer, kPair };
  uint64_t id = 0;
  Type type = Type::kPair;
  Process* process = nullptr;
  int fd = 0;
  // Options.
  std::string routing_id;
  size_t send_high_water = 1000;
  size_t receive_high_water = 1000;
  Duration linger{};
  Duration reconnect_first = Milliseconds(100);
  Duration reconnect_max{};
  // Connections, and where to.
  std::vector<std::shared_ptr<Connection>> connections;
  std::string endpoint;  // bound here, or connected to there
  int tries = 0;
  Time try_began;
  Time last_event;
  // Events of a socket that is monitored go to a PAIR.
  std::string monitored_as;
  uint64_t monitor = 0;
  End events;  // of the PAIR
  // Frames of a message that is being sent, or received.
  End* sending_to = nullptr;
  Message sending;
  Message receiving;
  size_t received = 0;
};

struct Weather {
  Duration latency_min = Microseconds(20);
  Duration latency_max = Microseconds(200);
  double spike = 0.01;  // how likely a message takes longer, and how much
  Duration spike_max = Milliseconds(10);
  size_t wire_messages = 32;  // that the kernels' buffers hold
  size_t high_water = 0;      // not 0: instead of what the socket's option says
};

// Connections between simulated processes, as libzmq keeps them: ordered, until they end; then
// what was under way is lost from some message on. zmq.cc is its surface.
class Network {
 public:
  Network(Kernel* kernel, const Weather& weather);
  ~Network();
  static Network* Current() { return current_; }

  // Faults, between hosts: a process's host has its name. Bytes from one to the other wait; all
  // connections between the two break; who connects to one is refused.
  void Stall(const std::string& from, const std::string& to, bool on);
  void Cut(const std::string& one, const std::string& other);
  void Refuse(const std::string& host, bool on);
  void Heal();
  // The process is gone, without a word.
  void Crash(Process* process);
  void OnThaw(Process* process);

  // The sockets' side.
  Socket* Open(Socket::Type type);
  void Close(Socket* socket);
  bool Bind(Socket* socket, const std::string& endpoint);
  void Connect(Socket* socket, const std::string& endpoint);
  void Monitor(Socket* socket, const std::string& endpoint);
  // Whether a message may be sent; to `peer_id`, by a ROUTER. 0, or the errno.
  int StartSend(Socket* socket, const std::string& peer_id);
  void FinishSend(Socket* socket);
  bool Receive(Socket* socket, Message* message);
  bool HasCome(Socket* socket);

  uint64_t delivered() const { return delivered_; }
  uint64_t lost() const { return lost_; }

 private:
  using Shared = std::shared_ptr<Connection>;
  static End& PeerOf(const End& end);
  void Note(std::string_view what, const End& end);
  bool IsStalled(const End& from, const End& to) const;
  Duration Soon(Duration most);
  void Signal(Socket* socket);
  void Learn(Socket* socket);
  static void Prune(Socket* socket);
  End* Readable(Socket* socket);
  void Kick(const Shared& connection, int side, Time when);
  void Pump(const Shared& connection, int side);
  void Leave(const Shared& connection, int side);
  void Arrive(const Shared& connection, int side);
  void PutOnWire(End* end, Wire::Item item);
  void CloseEnd(const Shared& connection, int side);
  void TakePipe(const Shared& connection, int side);
  void Tell(Socket* socket, int event);
  void Try(uint64_t id);
  void TryLater(Socket* socket, bool has_failed);
  void Establish(Socket* client, Socket* server);
  void Attach(const Shared& connection, int side);
  void Beat(const Shared& connection);
  void ForEach(const std::function<void(const Shared&)>& visit);
  Socket* Find(uint64_t id);

  static Network* current_;

  Kernel* const kernel_;
  const Weather weather_;
  std::map<uint64_t, std::unique_ptr<Socket>> sockets_;
  uint64_t last_socket_ = 0;
  std::map<std::string, uint64_t> listeners_;  // by endpoint
  std::map<std::string, uint64_t> monitored_;  // by endpoint
  std::vector<Shared> connections_;
  std::set<std::pair<std::string, std::string>> stalled_;
  std::set<std::string> refusing_;
  uint64_t delivered_ = 0;
  uint64_t lost_ = 0;
};

}  // namespace packcast::rtsim
