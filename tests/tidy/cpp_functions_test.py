"""The measure of functions itself."""

import unittest

from tests.tidy import cpp_functions


class CppFunctionsTest(unittest.TestCase):
    def test_finds_functions_in_namespaces_and_classes(self):
        text = """namespace a {
struct B {
  int Get() const {
    return 1'000;
  }
  int x = 0;
};
template <typename T>
void F(T t) {
  if (t) { G('{', "{"); }  // {
}
}  // namespace a
"""
        self.assertEqual(cpp_functions.functions(text), [(3, 5), (9, 11)])

    def test_initialisers_and_enums_are_no_functions(self):
        text = "enum class E : int {\n kA\n};\nconst int k[] = {\n1, 2\n};\n"
        self.assertEqual(cpp_functions.functions(text), [])

    def test_a_constructor_with_initialised_members_is_one_function(self):
        text = "struct A {\n A(int a)\n : a_{a}, b_{\n1} {\n  F();\n }\n};\n"
        self.assertEqual(cpp_functions.functions(text), [(4, 6)])

    def test_ignores_preprocessor_and_raw_strings(self):
        text = '#define X {\\\n {\nvoid F() {\n g(R"(})");\n}\n'
        self.assertEqual(cpp_functions.functions(text), [(3, 5)])

    def test_complains_about_unbalanced_braces(self):
        with self.assertRaises(ValueError):
            cpp_functions.functions("void F() {")
        with self.assertRaises(ValueError):
            cpp_functions.functions("}")


if __name__ == "__main__":
    unittest.main()
