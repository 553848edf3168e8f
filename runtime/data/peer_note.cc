#include "runtime/data/peer_note.h"

#include <initializer_list>
#include <utility>

#include "protocol/codec.h"

namespace packcast {
namespace {

// The numbers at the beginning of an array of exactly `items` items.
bool TakeNumbers(const Value& value, size_t items, std::initializer_list<uint64_t*> numbers) {
  const ValueArray* array = value.AsArray();
  if (array == nullptr || array->size() != items) return false;
  size_t at = 0;
  for (uint64_t* number : numbers) {
    if (!(*array)[at++].GetUint(number)) return false;
  }
  return true;
}

const ValueArray* ArrayAt(const Value& map, const char* key) {
  const Value* value = map.Find(key);
  return value == nullptr ? nullptr : value->AsArray();
}

}  // namespace

std::string EncodePeerNote(const PeerNote& note) {
  ValueArray closed;
  for (const uint64_t number : note.closed) closed.push_back(number);
  ValueArray opened;
  for (const PeerNote::Opened& one : note.opened) {
    opened.push_back(ValueArray{one.number, one.bytes, one.handle});
  }
  ValueArray parts;
  for (const PeerNote::Part& part : note.parts) {
    parts.push_back(ValueArray{part.number, part.offset, part.bytes});
  }
  return Encode(Value(ValueMap{
      {"closed", std::move(closed)}, {"opened", std::move(opened)}, {"parts", std::move(parts)}}));
}

StatusOr<PeerNote> DecodePeerNote(std::string_view text) {
  const Status bad = Internal("where the bytes of a step lie is malformed");
  const StatusOr<Value> value = Decode(text);
  if (!value.ok()) return bad;
  const ValueArray* closed = ArrayAt(*value, "closed");
  const ValueArray* opened = ArrayAt(*value, "opened");
  const ValueArray* parts = ArrayAt(*value, "parts");
  if (closed == nullptr || opened == nullptr || parts == nullptr) return bad;
  PeerNote note;
  for (const Value& number : *closed) {
    if (!number.GetUint(&note.closed.emplace_back())) return bad;
  }
  for (const Value& item : *opened) {
    PeerNote::Opened& one = note.opened.emplace_back();
    if (!TakeNumbers(item, 3, {&one.number, &one.bytes})) return bad;
    const Bytes* handle = (*item.AsArray())[2].AsBytes();
    if (handle == nullptr) return bad;
    one.handle = *handle;
  }
  for (const Value& item : *parts) {
    PeerNote::Part& part = note.parts.emplace_back();
    if (!TakeNumbers(item, 3, {&part.number, &part.offset, &part.bytes})) return bad;
  }
  return note;
}

}  // namespace packcast
