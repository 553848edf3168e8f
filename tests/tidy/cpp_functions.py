"""Finds the bodies of C++ functions by matching braces: good enough to measure their length."""

import re

_NOISE = re.compile(
    r'//[^\n]*|/\*.*?\*/'  # comments
    r'|R"([^(\s]*)\(.*?\)\1"'  # raw strings
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'"  # characters, but not the separators of 1'000
    r'|^[ \t]*#(?:\\\n|[^\n])*',  # preprocessor lines
    re.DOTALL | re.MULTILINE,
)
_NEXT = re.compile(r"\s*(.?)")
_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def _blank(match):
    return "\n" * match.group(0).count("\n")


def _opens_function(head):
    """Whether a brace after this text, at the level of a namespace or class, opens a function."""
    head = re.sub(r"\btemplate\s*<[^{]*?>\s*(?=[\w:])", "", head)
    return ")" in head and not _SCOPE.match(head.strip())


def functions(text):
    """Returns [(first line, last line)] of function bodies; raises ValueError if braces differ."""
    text = _NOISE.sub(_blank, text)
    found, line, head = [], 1, ""
    stack = []  # (is a function, line of the brace, text before it); inside a function all alike
    for index, char in enumerate(text):
        if char == "{":
            inside = any(is_function for is_function, _, _ in stack)
            stack.append((not inside and _opens_function(head), line, head))
            head = ""
        elif char == "}":
            if not stack:
                raise ValueError("line %d: a brace too many" % line)
            is_function, first, before = stack.pop()
            # What follows tells the body of a constructor from its "member_{value}".
            is_initialiser = _NEXT.match(text, index + 1).group(1) in (",", "{")
            head = before if is_initialiser else ""
            if is_function and not is_initialiser:
                found.append((first, line))
        elif char == ";":
            head = ""
        else:
            head += char
        line += char == "\n"
    if stack:
        raise ValueError("line %d: this brace is not closed" % stack[-1][1])
    return found
