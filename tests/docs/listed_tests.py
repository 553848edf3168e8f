"""Tests that a page names in tables, and those that are there."""

import ast
import re

from tests.tidy import tree


def tables(text):
    """{heading: lines of its table} of the headings of level 2."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {heading: [line for line in body.split("\n") if line.startswith("|")]
            for heading, body in zip(parts[::2], parts[1::2])}


def cells(line, count):
    """The cells of a row of a table; None when they are not so many."""
    match = re.fullmatch(r"\|%s" % (r" ([^|]+?) \|" * count), line)
    return match.groups() if match else None


def cpp_tests(text):
    """Each test in C++ as "Suite.Name", without what instances add to it."""
    pattern = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.MULTILINE)
    return {"%s.%s" % match.groups() for match in pattern.finditer(text)}


def python_tests(text):
    """Each test in Python as "Class.test_name"."""
    return {"%s.%s" % (node.name, method.name)
            for node in ast.parse(text).body if isinstance(node, ast.ClassDef)
            for method in node.body
            if isinstance(method, ast.FunctionDef) and method.name.startswith("test")}


def tests_of_file(path):
    """Those of a file of the tree, by its ending."""
    text = tree.read(path)
    return cpp_tests(text) if path.endswith(".cc") else python_tests(text)


def tests_of_the_tree():
    found = set()
    for path in tree.files((".cc", ".py"), ("tests/",)):
        found |= tests_of_file(path)
    return found
