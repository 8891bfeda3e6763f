"""TBEL, in which ThingsBoard's rule nodes are mostly written, as JavaScript: word by word, each in its line.

What differs is written anew: `foreach`, `.?`, maps in brackets, numbers with suffixes, Java's classes, types before
variables. Functions become members of `$`, and methods get a `$` before their names: so `tbel.js` has them. The rest is
the same in both; whether the whole is well formed the JavaScript engine says.

That engine must see the same words as are looked at here: so nothing is let through that begins a regular expression, a
comment or a function to it alone, and names that it has already are given to no variable of a script.

The standard library only, and little of it: the process that scripts run in imports this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rpcbroker.rules.tbel_names import CLASSES, FUNCTIONS, METHODS, STATICS, TYPES

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*[\s\S]*?\*/)
      | (?P<number>(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+)[lLfFdDBI]?(?![\w$]))
      | (?P<name>[A-Za-z_$][\w$]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<mark>\.\?|\?\.(?!\d)|[=!]==?|&&|\|\||\+\+|--|>>>=?|<<=|>>=|<<|>>|[-+*/%&|^<>]=
                |[-+*/%&|^~!<>=?:;,.(){}\[\]])
    """,
    re.VERBOSE,
)
_HEX = re.compile(r"0[xX][0-9a-fA-F]+")
_WORDS = {
    **{
        word: word
        for word in "var if else for while do return true false null break continue switch case default function throw "
        "try catch finally undefined NaN Infinity".split()
    },
    "and": "&&",
    "or": "||",
    "nil": "null",
    "let": "let",
    "const": "const",
}
"""What stands for itself, or for another word."""
_NO_VALUES = frozenset("return case else do throw and or in var def let const".split())
"""What is no value, so that a bracket behind it is the beginning of one."""
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_FOREIGN = ("<!--", "-->", "=>", "..")
"""What JavaScript takes for a comment, a function, or the members of a list."""
_HEADS = frozenset("if for foreach while".split())
"""What a bracket belongs to behind which a statement begins."""
_TAKEN = frozenset(
    (
        "arguments async await class debugger delete enum export extends implements import in instanceof interface of "
        "package private protected public static super this typeof void with yield "
        "$ AggregateError Array ArrayBuffer AsyncFunction Atomics BigDecimal BigFloat BigInt BigInt64Array "
        "BigUint64Array Boolean DataView Date Error EvalError FinalizationRegistry Float16Array Float32Array "
        "Float64Array Function Generator Int16Array Int32Array Int8Array InternalError Iterator JSON Map Math Number "
        "Object Operators Promise Proxy RangeError ReferenceError Reflect RegExp Set SharedArrayBuffer String Symbol "
        "SyntaxError TypeError URIError Uint16Array Uint32Array Uint8Array Uint8ClampedArray WeakMap WeakRef WeakSet "
        "decodeURI decodeURIComponent encodeURI encodeURIComponent escape eval globalThis isFinite isNaN navigator "
        "parseFloat parseInt performance queueMicrotask unescape"
    ).split()
)
"""Words and globals of JavaScript. What a script calls so is written with a `$` behind: it may be known in one place of
a script only, and would lead to JavaScript's own in all others."""


class Unknown(ValueError):
    """The script has a word, or a sign, that is not known; the message names it and its line."""


def to_javascript(source: str, arguments: Iterable[str]) -> str:
    """The body of a function of these arguments, in JavaScript. Raises Unknown. Takes time linear in the source."""
    return _Script(source, arguments).javascript()


class _Script:
    """The tokens of one script, with what is written instead of each."""

    def __init__(self, source: str, arguments: Iterable[str]) -> None:
        self._kinds: list[str] = []
        self._texts: list[str] = []
        self._lines: list[int] = []
        self._spaces: list[str] = []
        """Before each token, and at the end."""
        self._read(source)
        self._out = list(self._texts)
        self._matches = self._brackets()
        self._opens = {end: start for start, end in self._matches.items()}
        self._known = {*arguments, *_WORDS}
        self._assigned: dict[str, None] = {}
        self._done: set[int] = set()
        """Tokens that need no further look."""

    def _read(self, source: str) -> None:
        position, line, space = 0, 1, ""
        while position < len(source):
            found = _TOKEN.match(source, position)
            if found is None:
                raise Unknown(f"{source[position]!r} is not understood, at line {line}")
            if source.startswith("/*", position) and found.lastgroup != "space":
                raise Unknown(f"'/*' is never closed, at line {line}")
            text, kind = found.group(), found.lastgroup or ""
            if kind == "space":
                # Of a comment nothing is left but its lines.
                space += text if text.isspace() and "\n" in text else "\n" * text.count("\n") or " "
            else:
                if kind == "mark" and source.startswith(_FOREIGN, position):
                    foreign = next(sign for sign in _FOREIGN if source.startswith(sign, position))
                    raise Unknown(f"{foreign!r} is not understood, at line {line}")
                self._kinds.append(kind)
                self._texts.append(text)
                self._lines.append(line)
                self._spaces.append(space)
                space = ""
            line += text.count("\n")
            position = found.end()
        self._spaces.append(space)

    def _brackets(self) -> dict[int, int]:
        matches, open_ = {}, []
        for index, text in enumerate(self._texts):
            if text in _CLOSES:
                open_.append(index)
            elif text in (")", "]", "}"):
                if not open_ or _CLOSES[self._texts[open_[-1]]] != text:
                    raise Unknown(f"{text!r} closes nothing, at line {self._lines[index]}")
                matches[open_.pop()] = index
        if open_:
            raise Unknown(f"{self._texts[open_[-1]]!r} is never closed, at line {self._lines[open_[-1]]}")
        return matches

    def _text(self, index: int) -> str:
        return self._texts[index] if 0 <= index < len(self._texts) else ""

    def _is_name(self, index: int) -> bool:
        return 0 <= index < len(self._kinds) and self._kinds[index] == "name"

    def _is_member(self, index: int) -> bool:
        return self._text(index - 1) in (".", ".?", "?.")

    # -- the whole

    def javascript(self) -> str:
        for index, text in enumerate(self._texts):
            if self._kinds[index] == "name" and index not in self._done and not self._is_member(index):
                self._declare(index, text)
        keys = self._literals()
        for index, kind in enumerate(self._kinds):
            if index in self._done:
                continue
            if kind == "number":
                self._number(index)
            elif kind == "name" and index not in keys:
                self._word(index, self._texts[index])
            elif self._texts[index] == ".?":
                self._null_safe(index)
            elif self._texts[index] in ("/", "/="):
                self._require(self._divides(index), "a regular expression", index)
            elif self._texts[index] == "(":
                self._require(not self._calls_a_value(index), "a function without a name", index)
            elif self._texts[index] in ("==", "!=", "===", "!=="):
                self._require(not self._compares_members(index), "a comparison with the members of a list", index)
        self._give_back_the_last()
        declared = f"var {', '.join(map(_own, self._assigned))}; " if self._assigned else ""
        return declared + "".join(map("".join, zip(self._spaces, [*self._out, ""], strict=True)))

    # -- what is declared

    def _declare(self, index: int, text: str) -> None:
        after = self._text(index + 1)
        if text in ("for", "foreach") and after == "(":
            self._loop(index)
        elif text in ("def", "function") and self._is_name(index + 1) and self._text(index + 2) == "(":
            self._function(index)
        elif text in ("var", "def", "let", "const") and self._is_name(index + 1):
            self._out[index] = "var" if text == "def" else text
            self._done.add(index)
            self._known.add(after)
        elif text in TYPES and self._is_name(index + 1) and self._text(index - 1) != "new":
            self._out[index] = "var"
            self._done.add(index)
            self._known.add(after)
        elif text == "catch" and after == "(":
            self._known.add(self._text(index + 2))
        elif after == "=" and text not in self._known:
            self._assigned[text] = None
            self._known.add(text)

    def _loop(self, index: int) -> None:
        """`foreach (x : things)`, and the same with `for`."""
        if self._text(index) == "foreach":
            self._out[index] = "for"
            self._done.add(index)
        end = self._matches[index + 1]
        colon = index + 3 if self._text(index + 3) == ":" else index + 4
        if self._text(colon) != ":" or colon >= end or not self._is_name(colon - 1):
            return
        for before in range(index + 2, colon - 1):  # `var`, or a type
            self._out[before] = ""
            self._done.add(before)
        self._out[colon - 1] = "var " + _own(self._text(colon - 1))
        self._out[colon] = "of $.each(" if self._spaces[colon] else " of $.each("
        self._out[end] = "))"
        self._known.add(self._text(colon - 1))
        self._done.update((colon - 1, colon))

    def _function(self, index: int) -> None:
        self._out[index] = "function"
        self._out[index + 1] = _own(self._text(index + 1))
        self._known.add(self._text(index + 1))
        self._done.update((index, index + 1))
        for each in range(index + 3, self._matches[index + 2]):
            if self._is_name(each):
                if self._is_name(each + 1):  # a type
                    self._out[each] = ""
                else:
                    self._out[each] = _own(self._text(each))
                    self._known.add(self._text(each))
                self._done.add(each)

    # -- literals

    def _literals(self) -> set[int]:
        """Write maps in brackets as objects; the names that are keys of maps."""
        keys = set()
        for start, end in self._matches.items():
            text = self._text(start)
            if text == "[" and not self._is_value(start - 1) and self._has_colon(start, end):
                self._out[start], self._out[end] = "({", "})"
                if end == start + 2:  # [:]
                    self._out[start + 1] = ""
            elif text != "{":
                continue
            index = start + 1
            while index < end:
                if self._is_name(index) and self._text(index + 1) == ":" and self._text(index - 1) in ("{", "[", ","):
                    keys.add(index)
                index = self._matches.get(index, index) + 1
        return keys

    def _is_value(self, index: int) -> bool:
        """Whether a value ends there, so that a bracket behind it is an index."""
        if index < 0:
            return False
        text, kind = self._texts[index], self._kinds[index]
        return kind in ("string", "number") or (kind == "name" and text not in _NO_VALUES) or text in (")", "]")

    def _has_colon(self, start: int, end: int) -> bool:
        index = start + 1
        while index < end:
            text = self._texts[index]
            if text in (":", "?"):
                return text == ":"
            index = self._matches.get(index, index) + 1
        return False

    # -- what to JavaScript would be something else

    def _divides(self, index: int) -> bool:
        """Whether a value is before it."""
        before = self._text(index - 1)
        if before in ("++", "--"):
            return True
        return self._is_value(index - 1) and not self._ends_head(index - 1) and before not in ("break", "continue")

    def _calls_a_value(self, index: int) -> bool:
        """Whether what is called is found only when the script runs: `a["b"](c)`, `(a.b)(c)`."""
        before = self._text(index - 1)
        return before == "]" or (before == ")" and not self._ends_head(index - 1))

    def _compares_members(self, index: int) -> bool:
        """Whether a list or a map that is written there is compared: to JavaScript that equals nothing."""
        before = self._opens.get(index - 1, -1)
        return self._text(index + 1) in ("[", "{") or (
            self._text(before) in ("[", "{") and not self._is_value(before - 1)
        )

    def _ends_head(self, index: int) -> bool:
        """Whether the bracket there is that of an `if` or a loop."""
        return self._text(index) == ")" and self._text(self._opens[index] - 1) in _HEADS

    # -- single tokens

    def _number(self, index: int) -> None:
        text = self._texts[index]
        hexadecimal = _HEX.match(text)
        self._out[index] = hexadecimal.group() if hexadecimal else text.rstrip("lLfFdDBI")
        if len(self._out[index]) > 1 and self._out[index].isdigit():
            self._out[index] = self._out[index].lstrip("0") or "0"  # no octal numbers

    def _null_safe(self, index: int) -> None:
        """`a.?b.c` is null if a or b is."""
        self._out[index] = "?."
        after = index + 2
        if self._text(after) == "(":
            after = self._matches[after] + 1
        if self._text(after) == ".":
            self._out[after] = "?."
        elif self._text(after) == "[":
            self._out[after] = "?.["

    def _word(self, index: int, text: str) -> None:
        called = self._text(index + 1) == "("
        if self._is_member(index):
            if called:
                self._require(text in METHODS, f"the method {text!r}", index)
                self._out[index] = "$" + text
        elif text == "new":
            self._new(index)
        elif text == "java":
            self._path(index)
        elif text == "isdef" and called and self._matches[index + 1] == index + 3:
            self._out[index] = ""
            self._out[index + 2] = f'typeof {_own(self._text(index + 2))} !== "undefined"'
            self._done.add(index + 2)
        elif text in STATICS and self._text(index + 1) == ".":
            self._static(index)
        elif text in self._known:
            self._out[index] = _WORDS.get(text) or _own(text)
        else:
            what = "the function" if called else "the word"
            self._require(called and text in FUNCTIONS, f"{what} {text!r}", index)
            self._out[index] = "$." + text

    def _static(self, index: int) -> None:
        name, member = self._text(index), self._text(index + 2)
        self._require(member in STATICS[name], f"{name}.{member}", index)
        self._out[index] = "$." + name
        self._done.add(index + 2)

    def _path(self, index: int) -> None:
        """`java.util.` before a class."""
        while self._is_name(index) and self._text(index + 1) == "." and self._text(index)[:1].islower():
            self._out[index] = self._out[index + 1] = ""
            self._done.update((index, index + 1))
            index += 2
        self._done.add(index)
        self._require(self._text(index) in STATICS and self._text(index + 1) == ".", f"{self._text(index)!r}", index)
        self._static(index)

    def _new(self, index: int) -> None:
        self._out[index] = ""
        index += 1
        while self._is_name(index) and self._text(index + 1) == ".":
            self._out[index] = self._out[index + 1] = ""
            self._done.update((index, index + 1))
            index += 2
        self._done.add(index)
        name = self._text(index)
        if self._text(index + 1) == "[" and name in TYPES:
            end = self._matches[index + 1]
            self._out[index], self._out[index + 1], self._out[end] = "$.array", "(", ")"
            return
        self._require(name in CLASSES and self._text(index + 1) == "(", f"the class {name!r}", index)
        self._out[index] = "$." + name

    def _require(self, known: bool, what: str, index: int) -> None:
        if not known:
            raise Unknown(f"{what} is not known here, at line {self._lines[min(index, len(self._lines) - 1)]}")

    # -- the value of a script is that of its last statement

    def _give_back_the_last(self) -> None:
        end = len(self._texts)
        while end and self._texts[end - 1] == ";":
            end -= 1
        start = index = 0
        while index < end:
            index = self._matches.get(index, index) + 1
            if self._text(index - 1) == ";":
                start = index
        while start < end and self._text(start) in ("if", "else", "for", "foreach", "while", "function", "def"):
            start += 1
            while start < end and self._text(start) not in ("{", "("):
                start += 1
            if self._text(start) == "(":
                start = self._matches[start] + 1
            if self._text(start) != "{":
                return  # a single statement
            start = self._matches[start] + 1
        if start < end and self._text(start) not in _STATEMENTS:
            self._out[start] = "return " + self._out[start]


def _own(name: str) -> str:
    """How a name that the script gave is written."""
    return f"{name}$" if name in _TAKEN else name


_STATEMENTS = frozenset("return var def let const throw break continue do switch try".split()) | TYPES
