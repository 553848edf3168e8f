"""What C++ would do without a word and packcast refuses does not compile, and says why."""

import re
import subprocess
import unittest

from tests.tidy import tree

METHODS = """
#include "runtime/actor/new_actor.h"
using namespace packcast;
struct Thing {
  void Flag(bool) const noexcept {}
  void MaybeFlag(std::optional<bool>) noexcept {}
  void Count(int64_t) {}
  void Half(float) {}
  void Name(std::optional<std::string>) {}
  void Sizes(std::vector<int64_t>) {}
  void Late(int64_t, Context&) {}
  void Write(std::string&) {}
  static void Free(int64_t) {}
  static void Methods(MethodTable<Thing>& table) {
    table.Add("flag", &Thing::Flag).Add("maybe_flag", &Thing::MaybeFlag);
    table.Add("count", &Thing::Count).Add("half", &Thing::Half).Add("name", &Thing::Name);
    table.Add("sizes", &Thing::Sizes);
  }
};
void Use(TypedRef<Thing> thing, MethodTable<Thing>& table) {
"""
MEANING = "convert it yourself"
TYPE = "an argument is of another type than this method takes"
REFUSED = {
    'thing.Tell(&Thing::Flag, "false");': MEANING,
    "thing.Tell(&Thing::Flag, 0.5);": MEANING,
    "thing.Tell(&Thing::MaybeFlag, &table);": MEANING,
    "thing.Call(&Thing::Count, 2.7);": MEANING,
    "thing.Call(&Thing::Count, std::optional<double>(1));": TYPE,
    "thing.Call(&Thing::Sizes, 5);": TYPE,
    'table.Add("late", &Thing::Late);': "Context& must come first",
    'table.Add("write", &Thing::Write);': "take it by value or const reference",
    'table.Add("free", &Thing::Free);': "a method is a non-static member function",
}
ALLOWED = """
  thing.Tell(&Thing::Flag, true);
  thing.Call(&Thing::Count, 3u);
  thing.Call(&Thing::Half, 1);
  thing.Call(&Thing::Half, 0.1);
  thing.Call(&Thing::Name, std::string_view("ada"));
  thing.Call(&Thing::Sizes, std::vector<int64_t>{1, 2});
  (void)table;
"""


def complaints(body):
    """What the compiler has against the statements of a function."""
    command = ["g++", "-std=c++20", "-fsyntax-only", "-w", "-I.", "-x", "c++", "-"]
    return subprocess.run(command, cwd=tree.root(), input=METHODS + body + "}\n", text=True,
                          capture_output=True, check=False).stderr


class RefusedCodeTest(unittest.TestCase):

    def test_what_loses_nothing_compiles(self):
        self.assertEqual(complaints(ALLOWED), "")

    def test_what_would_be_lost_without_a_word_does_not_compile(self):
        for statement, why in REFUSED.items():
            with self.subTest(statement=statement):
                said = complaints(statement)
                self.assertIn("static assertion failed", said)
                self.assertIn(why, said)
                self.assertEqual(len(re.findall(r": error: ", said)), 1, said)


if __name__ == "__main__":
    unittest.main()
