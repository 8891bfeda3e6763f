"""What is wanted of a figure, and whether it was reached: one line, which bench/results.py reads again."""

from __future__ import annotations

import re
from typing import NamedTuple

REACHED, FLOOR, MISSED, INVALID = "reached", "the floor is reached", "MISSED", "NOT VALID"
_LINE = re.compile(r"^ *wanted: (.+) at (least|most) (\S+)(?: \(floor (\S+)\))?; found (\S+): (.+)$", re.MULTILINE)


class Aim(NamedTuple):
    """What is wanted of a figure of ours; with `of`, in parts of that of a peer, or of ourselves in another way."""

    wanted: float
    floor: float | None = None
    """What is accepted while `wanted` is out of reach."""
    figure: str = "rate"
    of: str = ""
    most: bool = False
    """The figure shall be no more than this; else no less."""

    def tell(self, found: float, *, valid: bool = True) -> str:
        """The line; `valid` is whether it can be believed."""
        what = f"{self.figure} / {self.of}" if self.of else self.figure
        floor = "" if self.floor is None else f" (floor {self.floor:g})"
        bound = f"at {'most' if self.most else 'least'} {self.wanted:g}{floor}"
        return f"wanted: {what} {bound}; found {found:.3g}: {self._verdict(found) if valid else INVALID}"

    def _verdict(self, found: float) -> str:
        if self._holds(found, self.wanted):
            return REACHED
        return FLOOR if self.floor is not None and self._holds(found, self.floor) else MISSED

    def _holds(self, found: float, bound: float) -> bool:
        return found <= bound if self.most else found >= bound


class Verdict(NamedTuple):
    """A line that was read again; all is text as it stood there."""

    what: str
    bound: str
    wanted: str
    floor: str
    found: str
    verdict: str


def verdicts(text: str) -> list[Verdict]:
    """Of what a program printed, those lines."""
    return [Verdict(*found) for found in _LINE.findall(text)]
