#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/time.h"

namespace packcast::internal {

// The connections that a listener holds, by the descriptors that libzmq names them with: how many,
// from where, and which are strangers, as no hello of theirs was welcome yet. It decides who must
// go; does nothing by itself. Owned by Peers; in the reactor's turn only.
class Connections {
 public:
  struct Limits {
    size_t all = 0;
    size_t per_address = 0;
    Duration stranger_time{};  // how long one may stay a stranger
  };
  struct Connection {
    int fd = -1;
    uint64_t id = 0;
    std::string address;
    uint64_t number = 0;  // in the order in which they came
    Time accepted;
    bool is_welcome = false;  // it is no stranger any more
    bool is_ending = false;   // it was told to go: it does not count any more
    Time bad_since;
    std::string bad_sender;  // the routing id of those that count
    int bad_messages = 0;    // since then
  };
  // So many bad messages one may send in such a time.
  static constexpr int kBadMessages = 256;
  static constexpr Duration kBadTime = Seconds(10);
  // Strangers that come and go, a second, above which accepting them takes more than its share of a
  // processor; the least time to count them in; and for how long that holds.
  static constexpr double kManyPassers = 500;
  static constexpr Duration kCountTime = Milliseconds(50);
  static constexpr Duration kScanTime = Seconds(10);

  void set_limits(const Limits& limits) { limits_ = limits; }

  // Takes one in. Returns who must go for that: of all, or of those from there, the stranger that
  // came first, this one at the latest; null: nobody. `id` 0: it is over already.
  const Connection* Accept(int fd, uint64_t id, std::string address, Time now);
  // It is over. False: it was a stranger, so nobody is missed.
  bool Close(int fd);
  // One of that descriptor is there, as far as is known.
  bool Knows(int fd) const { return connections_.contains(fd); }
  // It is no stranger any more. It may not have been taken in yet: the news of it, and of the end
  // of the one before it, come later than what it says.
  void Welcome(int fd, uint64_t id);
  // It has sent a message that it may not send, under that routing id. True: that was one too many.
  // Another sender's may still come from a connection that is over and had the same descriptor.
  bool NoteBad(int fd, std::string_view sender, Time now);
  // It was told to go.
  void Ending(int fd);

  // Those that have been strangers for too long.
  std::vector<const Connection*> Overdue(Time now) const;
  // This process has slept for so long: nobody could be welcome meanwhile.
  void Forgive(Duration slept);
  // Who came first; null: there is none.
  const Connection* FirstStranger() const;
  // Null: not known, or told to go.
  const Connection* Find(int fd) const;
  // Some that are thought to be there, others each time: libzmq does not tell of every end.
  std::vector<const Connection*> Some(size_t count);
  // Whether too many strangers come and go, or did so a while ago.
  bool IsScanned(Time now);
  double passers_per_second() const { return passers_per_second_; }
  // Of those that were not told to go.
  size_t size() const { return staying_; }

 private:
  using Strangers = std::set<std::pair<uint64_t, int>>;  // numbers, descriptors
  struct Address {
    size_t count = 0;
    Strangers strangers;
  };
  void Uncount(Connection* connection);

  Limits limits_;
  std::map<int, Connection> connections_;
  std::map<int, uint64_t> last_welcome_;  // by descriptor: it may not be taken in yet
  std::map<std::string, Address> addresses_;
  Strangers strangers_;
  size_t staying_ = 0;
  uint64_t last_number_ = 0;
  int next_ = 0;     // of Some
  int passers_ = 0;  // strangers that have gone of themselves since `counted_`
  Time counted_;
  double passers_per_second_ = 0;  // before that
  Time scanned_until_;
};

}  // namespace packcast::internal
