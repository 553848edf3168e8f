// The part of Peers that watches over the listener: whom it lets in, and whom it sends away.
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"
#include "runtime/net/listener.h"

namespace packcast::internal {
namespace {

// Events taken before messages, timers and beats have their turn.
constexpr int kEventsPerTurn = 256;
// Connections of which it is seen whether they are there still.
constexpr size_t kCheckedPerBeat = 16;
// A closed connection is noticed by a send only once ZeroMQ has taken its pipe down, which takes
// long where there is little processor time. Who does not beat is missed by nothing else.
constexpr Duration kProbeDelays[] = {Milliseconds(0),   Milliseconds(2),   Milliseconds(10),
                                     Milliseconds(100), Milliseconds(500), Seconds(2)};
constexpr Duration kProbeInterval = Milliseconds(2);
// How long one who says nothing waits to be accepted while the port is scanned.
constexpr Duration kSilence = Seconds(1);

// Of the descriptors of this process a quarter is left for all else: where there are none, libzmq
// can accept nobody, and tries without a pause.
size_t MostDescriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
  return std::max<size_t>(1, static_cast<size_t>(limit.rlim_cur) / 4 * 3);
}

}  // namespace

Status Peers::OpenDoor(const std::string& endpoint) {
  const RuntimeOptions& options = node_->options();
  PC_ASSIGN_OR_RETURN(net::ConnectionProbe probe, net::ConnectionProbe::Open(endpoint));
  probe_.emplace(std::move(probe));
  Connections::Limits limits;
  limits.all = std::min(static_cast<size_t>(options.max_connections), MostDescriptors());
  limits.per_address = static_cast<size_t>(options.max_connections_per_address);
  limits.stranger_time = options.hello_timeout;
  connections_.set_limits(limits);
  if (endpoint.starts_with("tcp://")) listens_at_ = endpoint;
  return OkStatus();
}

bool Peers::ReceiveDoor() {
  net::MonitorEvent event;
  for (int k = 0; k < kEventsPerTurn; ++k) {
    if (!net::NextMonitorEvent(&router_monitor_, &event)) return false;
    using Kind = net::MonitorEvent::Kind;
    if (event.kind == Kind::kAccepted) OnAccepted(event.value);
    if (event.kind == Kind::kAcceptFailed) OnAcceptFailed(event.value);
    if (event.kind != Kind::kDisconnected) continue;
    if (connections_.Close(event.value)) ProbeLinks();
    if (probe_) probe_->TakeBack();
  }
  return true;
}

// While the port is scanned the kernel keeps who says nothing. Not always: a peer whose words come
// first is not told any more what is wrong with its keys.
void Peers::MindScanners(Time now) {
  const bool defers = connections_.IsScanned(now);
  if (listens_at_.empty() || defers == defers_accepts_) return;
  const Status set = net::DeferAccept(listens_at_, defers ? kSilence : Duration::zero());
  if (set.ok()) {
    defers_accepts_ = defers;
    node_->metrics().Get("accepts_deferred").Set(defers ? 1 : 0);
  }
  if ((set.ok() && !defers) || !door_log_.Allow(now)) return;
  LogWarning("node ", node_->options().name, ": ",
             static_cast<int64_t>(connections_.passers_per_second()),
             " strangers a second come and go: ",
             set.ok() ? "who says nothing is not accepted for a while" : set.message());
}

// The event does not say which peer's connection it was: see who cannot be sent to any more.
void Peers::ProbeLinks() {
  probes_.clear();
  // Who comes and goes all the time causes no more than this.
  const Time first = std::max(Now(), last_probe_ + kProbeInterval);
  for (Duration delay : kProbeDelays) probes_.push_back(first + delay);
}

void Peers::OnAccepted(int fd) {
  if (!probe_) return;
  // One that is over already is taken in all the same, until the news of that come.
  const net::ConnectionProbe::Peer peer = probe_->Look(fd).value_or(net::ConnectionProbe::Peer{});
  // The end of the one that had this descriptor went unnoticed.
  if (connections_.Knows(fd) && connections_.Close(fd)) ProbeLinks();
  const Connections::Connection* leaving = connections_.Accept(fd, peer.id, peer.address, Now());
  const char* why = "there are as many as there may be (max_connections, or those of one address)";
  if (probe_->is_lent()) {
    leaving = connections_.FirstStranger();
    why = "no descriptors are left: raise LimitNOFILE";
  }
  if (leaving != nullptr) SendAway(*leaving, why);
}

void Peers::OnAcceptFailed(int error) {
  if ((error == EMFILE || error == ENFILE) && probe_) probe_->Lend();
}

void Peers::SendAway(const Connections::Connection& connection, const std::string& why) {
  const int fd = connection.fd;
  const std::string from = connection.address.empty() ? "this host" : connection.address;
  if (!probe_->End(fd, connection.id)) return (void)connections_.Close(fd);  // it is over already
  connections_.Ending(fd);
  node_->metrics().Get("ended_connections_total").Add();
  if (!door_log_.Allow(Now())) return;
  LogWarning("node ", node_->options().name, ": closed a connection from ", from, ": ", why);
}

void Peers::TickDoor(Time now) {
  if (!probe_) return;
  probe_->TakeBack();
  MindScanners(now);
  const std::string why = "no good hello came within " +
                          std::to_string(ToMilliseconds(node_->options().hello_timeout)) + " ms";
  for (const Connections::Connection* stranger : connections_.Overdue(now)) {
    SendAway(*stranger, why);
  }
  for (const Connections::Connection* one : connections_.Some(kCheckedPerBeat)) {
    const auto there = probe_->Look(one->fd);
    const bool is_over = !there || there->id != one->id;
    if (is_over && connections_.Close(one->fd)) ProbeLinks();
  }
  node_->metrics().Get("connections").Set(static_cast<int64_t>(connections_.size()));
}

void Peers::Welcome(const Source& source) {
  const int fd = probe_ && source.frame != nullptr ? source.frame->source_fd() : -1;
  if (fd < 0) return;
  const auto peer = probe_->Look(fd);
  if (peer) return connections_.Welcome(fd, peer->id);
  ProbeLinks();  // it is over already: its end will be taken for that of a stranger
}

void Peers::NoteBad(const Source& source) {
  const int fd = probe_ && source.frame != nullptr ? source.frame->source_fd() : -1;
  if (fd < 0 || !connections_.NoteBad(fd, source.routing_id, Now())) return;
  SendAway(*connections_.Find(fd),
           "it sent " + std::to_string(Connections::kBadMessages) + " bad messages within " +
               std::to_string(ToMilliseconds(Connections::kBadTime)) + " ms");
}

}  // namespace packcast::internal
