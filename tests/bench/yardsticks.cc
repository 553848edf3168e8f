#include "tests/bench/yardsticks.h"

#include <zmq.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace packcast::bench {
namespace {

using Clock = std::chrono::steady_clock;

double MicrosecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

void Require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
  std::exit(1);
}

constexpr int kEchoBytes = 64;

}  // namespace

double Latencies::Percentile(double p) const {
  if (us.empty()) return 0;
  return us[std::min(us.size() - 1, static_cast<size_t>(p * static_cast<double>(us.size())))];
}

Latencies ConditionVariablePingPong(int rounds) {
  std::mutex mutex;
  std::condition_variable changed;
  bool ping = false;
  bool done = false;
  std::thread other([&] {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return ping || done; });
      if (done) return;
      ping = false;
      changed.notify_one();
    }
  });
  Latencies out;
  for (int k = 0; k < rounds; ++k) {
    const auto begin = Clock::now();
    std::unique_lock lock(mutex);
    ping = true;
    changed.notify_one();
    changed.wait(lock, [&] { return !ping; });
    out.us.push_back(MicrosecondsSince(begin));
  }
  {
    std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();
  }
  other.join();
  std::sort(out.us.begin(), out.us.end());
  return out;
}

Latencies ZmqEcho(int rounds) {
  void* context = zmq_ctx_new();
  void* router = zmq_socket(context, ZMQ_ROUTER);
  void* dealer = zmq_socket(context, ZMQ_DEALER);
  const int linger = 0;
  zmq_setsockopt(router, ZMQ_LINGER, &linger, sizeof linger);
  zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof linger);
  Require(zmq_bind(router, "tcp://127.0.0.1:*") == 0, "bind");
  char endpoint[256];
  size_t size = sizeof endpoint;
  Require(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size) == 0, "last endpoint");
  Require(zmq_connect(dealer, endpoint) == 0, "connect");
  std::thread server([&] {
    char id[256];
    char body[kEchoBytes];
    for (int k = 0; k < rounds; ++k) {
      const int id_size = zmq_recv(router, id, sizeof id, 0);
      const int body_size = zmq_recv(router, body, sizeof body, 0);
      Require(id_size > 0 && body_size > 0, "echo receive");
      zmq_send(router, id, static_cast<size_t>(id_size), ZMQ_SNDMORE);
      zmq_send(router, body, static_cast<size_t>(body_size), 0);
    }
  });
  Latencies out;
  char body[kEchoBytes] = {};
  for (int k = 0; k < rounds; ++k) {
    const auto begin = Clock::now();
    Require(zmq_send(dealer, body, sizeof body, 0) >= 0, "send");
    Require(zmq_recv(dealer, body, sizeof body, 0) >= 0, "receive");
    out.us.push_back(MicrosecondsSince(begin));
  }
  server.join();
  zmq_close(dealer);
  zmq_close(router);
  zmq_ctx_term(context);
  std::sort(out.us.begin(), out.us.end());
  return out;
}

}  // namespace packcast::bench
