#include "tests/gpu/notes.h"

#include <algorithm>
#include <utility>

namespace packcast::trial {

void NoteBoard::Put(Note note) {
  std::lock_guard lock(mutex_);
  notes_.push_back(std::move(note));
  changed_.notify_all();
}

uint64_t NoteBoard::end() const {
  std::lock_guard lock(mutex_);
  return first_ + notes_.size();
}

std::optional<Note> NoteBoard::Wait(uint64_t from, Time until, const Wanted& wanted) const {
  std::unique_lock lock(mutex_);
  while (true) {
    from = std::max(from, first_);
    for (; from < first_ + notes_.size(); ++from) {
      if (wanted(notes_[from - first_])) return notes_[from - first_];
    }
    if (changed_.wait_until(lock, until) == std::cv_status::timeout &&
        from == first_ + notes_.size()) {
      return std::nullopt;
    }
  }
}

void NoteBoard::Forget() {
  std::lock_guard lock(mutex_);
  first_ += notes_.size();
  notes_.clear();
}

std::string TextOf(const Value& map, std::string_view key) {
  const Value* value = map.Find(key);
  const std::string* text = value == nullptr ? nullptr : value->AsString();
  return text == nullptr ? "" : *text;
}

uint64_t NumberOf(const Value& map, std::string_view key) {
  const Value* value = map.Find(key);
  uint64_t number = 0;
  return value != nullptr && value->GetUint(&number) ? number : 0;
}

}  // namespace packcast::trial
