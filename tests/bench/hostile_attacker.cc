// Strangers for //tests/bench:hostile, each a process of its own: attacks ports of this host, or is
// one that is attacked instead, until SIGTERM; then prints how often it did.
//   scan SHARE PORT...: connects and resets the connection
//   visit SHARE PORT...: connects and closes it politely
//   loris SHARE PORT...: holds 1,000 connections, and says a byte on each now and then
//   garbage SHARE PORT...: bytes that are no ZeroMQ, and messages that nobody understands
//   bytes SHARE PORT...: the same, but does not wait for an answer
//   key SHARE PORT SERVER_KEY: handshakes with a key that is not on the list
//   listen COUNT: accepts, reads and forgets; prints the ports first
//   doorkeeper: a bare ROUTER of libzmq with CURVE, and nobody on its list; prints port and key
// SHARE: of one processor, that it takes at most.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/actor/keys.h"
#include "runtime/net/zap_server.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::bench {
namespace {

constexpr int kConnectionsOfLoris = 1000;
constexpr int kConnectionsOfGarbage = 4;  // to each port

volatile sig_atomic_t is_over = 0;

double Seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Takes no more than its share of one processor, in slices of a few milliseconds.
class Throttle {
 public:
  explicit Throttle(double share)
      : share_(share), cpu_(Seconds(CLOCK_PROCESS_CPUTIME_ID)), began_(Seconds(CLOCK_MONOTONIC)) {}
  void Rest() const {
    const double used = Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_;
    const double ahead = used / share_ - (Seconds(CLOCK_MONOTONIC) - began_);
    if (ahead > 0.002) usleep(static_cast<useconds_t>(1e6 * ahead));
  }

 private:
  const double share_;
  const double cpu_;
  const double began_;
};

int Connect(int port, bool waits) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (waits ? 0 : SOCK_NONBLOCK), 0);
  // Its end leaves nothing behind that would use ports up.
  const linger reset = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<uint16_t>(port));
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 || errno == EINPROGRESS) {
    return fd;
  }
  close(fd);
  return -1;
}

uint64_t Scan(const std::vector<int>& ports, bool resets, const Throttle& throttle) {
  uint64_t done = 0;
  const linger polite = {0, 0};
  while (is_over == 0) {
    const int fd = Connect(ports[done++ % ports.size()], true);
    if (fd >= 0) {
      if (!resets) setsockopt(fd, SOL_SOCKET, SO_LINGER, &polite, sizeof polite);
      close(fd);
    }
    if (done % 8 == 0) throttle.Rest();
  }
  return done;
}

uint64_t Loris(const std::vector<int>& ports, const Throttle& throttle) {
  std::vector<int> held(kConnectionsOfLoris, -1);
  uint64_t done = 0;
  for (size_t k = 0; is_over == 0; k = (k + 1) % held.size()) {
    // All that is said is the beginning of a greeting, a byte each time.
    const bool is_there = held[k] >= 0 && send(held[k], "\xff", 1, MSG_NOSIGNAL) == 1;
    if (!is_there) {
      if (held[k] >= 0) close(held[k]);
      held[k] = Connect(ports[k % ports.size()], false);
      ++done;
    }
    if (k % 8 == 0) throttle.Rest();
    if (k + 1 == held.size()) {
      if (done == held.size()) std::puts("ready");
      std::fflush(stdout);
      for (int rest = 0; rest < 20 && is_over == 0; ++rest) usleep(50'000);
    }
  }
  return done;
}

std::string Greeting() {
  const std::string ready("\5READY\x0bSocket-Type\0\0\0\6DEALER", 28);
  return std::string("\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL", 16) + std::string(48, '\0') + '\4' +
         static_cast<char>(ready.size()) + ready;
}

// What comes before libzmq has sent its own command is an error to it, so that is awaited.
bool Introduce(int fd) {
  std::array<char, 256> theirs{};
  const timeval patience = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const std::string greeting = Greeting();
  return send(fd, greeting.data(), greeting.size(), MSG_NOSIGNAL) > 0 &&
         recv(fd, theirs.data(), 66, MSG_WAITALL) == 66 &&
         recv(fd, theirs.data(), static_cast<uint8_t>(theirs[65]), MSG_WAITALL) > 0;
}

uint64_t Garbage(const std::vector<int>& ports, bool introduces, const Throttle& throttle) {
  std::string bytes(16'384, '\0');
  for (char& byte : bytes) byte = static_cast<char>(std::rand());
  // Short messages: a header's length, as on the bulk lane, or what may be an envelope.
  std::string messages;
  for (int k = 0; k < 256; ++k) messages += std::string("\0\x30", 2) + bytes.substr(k * 48, 48);
  std::vector<int> held(kConnectionsOfGarbage * ports.size(), -1);
  uint64_t sent = 0;
  for (size_t k = 0; is_over == 0; ++k) {
    int& fd = held[k % held.size()];
    // Half of them first, to each port.
    const bool is_zmtp = k % held.size() < held.size() / 2;
    if (fd < 0) {
      fd = Connect(ports[k % ports.size()], true);
      if (fd < 0) continue;
      if (is_zmtp && introduces) (void)Introduce(fd);
      fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    const std::string& load = is_zmtp ? messages : bytes;
    const ssize_t done = send(fd, load.data(), load.size(), MSG_NOSIGNAL);
    if (done > 0) sent += static_cast<uint64_t>(done);
    // What was cut off would be another message; a new connection begins anew.
    const bool is_cut = done >= 0 && done != static_cast<ssize_t>(load.size());
    if ((done < 0 && errno != EAGAIN) || is_cut) {
      close(fd);
      fd = -1;
    }
    throttle.Rest();
  }
  return sent;
}

uint64_t WrongKey(int port, const std::string& server_key, const Throttle& throttle) {
  const RuntimeKeys keys = MakeKeys();
  net::ZmqContext context;
  net::SocketOptions options;
  options.curve = net::CurveKeys{false, keys.public_key, keys.secret_key, server_key};
  uint64_t done = 0;
  while (is_over == 0) {
    auto socket = net::ZmqSocket::Open(context, net::SocketType::kDealer, options).value();
    auto monitor = socket.OpenMonitor(context).value();
    (void)socket.Connect("tcp://127.0.0.1:" + std::to_string(port));
    bool is_answered = false;
    while (!is_answered && is_over == 0) {
      net::MonitorEvent event;
      while (net::NextMonitorEvent(&monitor, &event)) {
        using Kind = net::MonitorEvent::Kind;
        if (event.kind == Kind::kConnected) std::puts("LET IN");
        is_answered = is_answered || event.kind == Kind::kTurnedAway ||
                      event.kind == Kind::kHandshakeFailed || event.kind == Kind::kConnected;
      }
      zmq_pollitem_t item = {monitor.handle(), 0, ZMQ_POLLIN, 0};
      if (!is_answered) zmq_poll(&item, 1, 100);
    }
    ++done;
    socket.Close();
    throttle.Rest();
  }
  return done;
}

uint64_t Listen(int count) {
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  std::vector<int> listeners;
  for (int k = 0; k < count; ++k) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    bind(fd, reinterpret_cast<sockaddr*>(&at), size);
    listen(fd, 1024);
    getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
    std::printf("%d\n", ntohs(at.sin_port));
    listeners.push_back(fd);
    epoll_event event = {EPOLLIN, {.u64 = static_cast<uint64_t>(k)}};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
  }
  std::fflush(stdout);
  uint64_t accepted = 0;
  std::array<epoll_event, 64> events{};
  std::vector<char> buffer(65'536);
  while (is_over == 0) {
    const int ready = epoll_wait(poll, events.data(), static_cast<int>(events.size()), 100);
    for (int k = 0; k < ready; ++k) {
      const uint64_t which = events[static_cast<size_t>(k)].data.u64;
      if (which < listeners.size()) {
        const int fd = accept4(listeners[which], nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) continue;
        ++accepted;
        epoll_event event = {EPOLLIN, {.u64 = listeners.size() + static_cast<uint64_t>(fd)}};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
        continue;
      }
      const int fd = static_cast<int>(which - listeners.size());
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got == 0 || (got < 0 && errno != EAGAIN)) close(fd);
    }
  }
  return accepted;
}

uint64_t KeepDoor() {
  const RuntimeKeys keys = MakeKeys();
  net::ZmqContext context;
  auto zap = net::ZapServer::Open(context, {MakeKeys().public_key}).value();
  net::SocketOptions options;
  options.curve = net::CurveKeys{true, keys.public_key, keys.secret_key, ""};
  auto router = net::ZmqSocket::Open(context, net::SocketType::kRouter, options).value();
  const std::string endpoint = router.Bind("tcp://127.0.0.1:*").value();
  std::printf("%s\n%s\n", endpoint.substr(endpoint.rfind(':') + 1).c_str(),
              keys.public_key.c_str());
  std::fflush(stdout);
  uint64_t refused = 0;
  while (is_over == 0) {
    zmq_pollitem_t item = {zap.socket().handle(), 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, 100);
    refused += zap.Serve().size();
  }
  return refused;
}

int Run(int argc, char** argv) {
  const std::string mode = argv[1];
  struct sigaction action {};
  action.sa_handler = [](int) { is_over = 1; };
  sigaction(SIGTERM, &action, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // however the benchmark ends
  uint64_t done = 0;
  if (mode == "listen") {
    done = Listen(std::atoi(argv[2]));
  } else if (mode == "doorkeeper") {
    done = KeepDoor();
  } else {
    if (argc < 4) return 2;
    const Throttle throttle(std::atof(argv[2]));
    std::vector<int> ports;
    for (int k = 3; k < argc; ++k) ports.push_back(std::atoi(argv[k]));
    if (mode != "loris") std::puts("ready");
    std::fflush(stdout);
    if (mode == "scan" || mode == "visit") done = Scan(ports, mode == "scan", throttle);
    if (mode == "loris") done = Loris(ports, throttle);
    if (mode == "garbage") done = Garbage(ports, true, throttle);
    if (mode == "bytes") done = Garbage(ports, false, throttle);
    if (mode == "key") done = WrongKey(ports[0], argv[4], throttle);
  }
  std::printf("%llu\n", static_cast<unsigned long long>(done));
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return argc < 2 ? 2 : packcast::bench::Run(argc, argv); }
