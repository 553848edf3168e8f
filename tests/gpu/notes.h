#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "protocol/time.h"
#include "protocol/value.h"

namespace packcast::trial {

// Something that happened in a cluster that is watched, with the time at which it was seen.
struct Note {
  enum class Kind : uint8_t {
    kEvent,  // the coordinator published `event`
    kReply,  // a process answered: `text`
    kLine,   // a process wrote the line `text`
    kGone,   // a process ended: `text` says how
  };
  Kind kind = Kind::kEvent;
  Time at{};
  int process = 0;  // MemberProcess::number; of events: 0
  std::string text;
  Value event;
};

// All that happens, in the order in which it was seen, for who waits for one thing or another.
// Thread-safe.
class NoteBoard {
 public:
  using Wanted = std::function<bool(const Note&)>;

  void Put(Note note);
  // The number that the next note will have.
  uint64_t end() const;
  // The first note with a number from `from` on that `wanted` accepts; nothing after `until`.
  // `wanted` sees each note once, in order.
  std::optional<Note> Wait(uint64_t from, Time until, const Wanted& wanted) const;
  // Drops all notes; numbers go on.
  void Forget();

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<Note> notes_;
  uint64_t first_ = 0;  // number of notes_.front()
};

// A field of an event, "" when it has none or it is no text.
std::string TextOf(const Value& map, std::string_view key);
// 0 when there is none.
uint64_t NumberOf(const Value& map, std::string_view key);

}  // namespace packcast::trial
