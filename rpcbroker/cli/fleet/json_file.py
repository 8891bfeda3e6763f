"""Fleets as JSON: an array of objects, each a name and the body of `PUT /api/tenant/device`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO

import msgspec

from rpcbroker.cli.fleet.entries import Entry, Line
from rpcbroker.core import jsontext

_BLANKS = re.compile(r"[ \t\r\n]*")


class _Fault(Exception):
    """The text is no JSON array; what is said is why."""


def read_json(file: IO[str]) -> Iterator[Line]:
    """The objects of an array, one by one; after a fault of the array itself nothing more.

    `file` is decoded with `surrogateescape`. Its text is held as a whole, its objects are not.
    """
    text = _Text(file.read())
    try:
        text.take("[")
        if text.next() != "]":
            yield _line(*text.value())
            while text.next() != "]":
                text.take(",")
                yield _line(*text.value())
        text.take("]")
        text.take("")
    except _Fault as fault:
        yield Line(number=text.line, error=f"{fault}; what follows is not read")


class JsonFile:
    """Writes an array, a line for each entry."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._before = "[\n"

    def write(self, entry: Entry) -> None:
        """One more."""
        self._file.write(self._before + msgspec.json.encode(entry).decode())
        self._before = ",\n"

    def end(self) -> None:
        """There are no more."""
        self._file.write("[]\n" if self._before == "[\n" else "\n]\n")


class _Text:
    """A JSON text that is read from its beginning; `line` is where the reader is."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self.line = 1

    def next(self) -> str:
        """The next character that is no blank; empty at the end."""
        blanks = _BLANKS.match(self._text, self._place)
        assert blanks is not None
        self._go(blanks.end())
        return self._text[self._place : self._place + 1]

    def take(self, expected: str) -> None:
        """Raises _Fault if something else is next."""
        found = self.next()
        if found != expected:
            raise _Fault(f"here should be {_named(expected)}, and is {_named(found)}: it must be an array of objects")
        self._go(self._place + len(found))

    def value(self) -> tuple[int, str]:
        """The line of the next value, and its text. Raises _Fault."""
        self.next()
        start, line = self._place, self.line
        try:
            _, end = json.JSONDecoder().raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            self._go(error.pos)
            raise _Fault(f"not JSON: {error.msg}") from None
        except RecursionError:
            raise _Fault("nested too deeply") from None
        self._go(end)
        return line, self._text[start:end]

    def _go(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place


def _named(char: str) -> str:
    return repr(char) if char else "the end"


def _line(number: int, text: str) -> Line:
    try:
        return Line(number=number, entry=jsontext.decode_as(Entry, text.encode()))
    except UnicodeEncodeError:
        return Line(number=number, error="it is not UTF-8")
    except jsontext.BadJSON as error:
        return Line(number=number, error=str(error))
