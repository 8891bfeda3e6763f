"""What else ran on the machine while something was measured."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

TOLD = 3
"""So many processes are named."""
LITTLE = 0.01
"""Of a core: processes that took less are not named."""


class _Process(NamedTuple):
    name: str
    parent: int
    ticks: int
    """Of CPU time."""
    of_children: int
    """The same of its children that have ended."""


_NEW = _Process("", 0, 0, 0)


class Beside:
    """A context manager. After it, `share` is how much of a core was taken by processes that are neither this one nor
    children of it, `stolen` by the hypervisor; `names` has some of these processes, those that took most.
    """

    share = stolen = 0.0
    names = ""

    def __enter__(self) -> Beside:
        self._began, self._cpu, self._processes = perf_counter(), _machine(), _processes()
        return self

    def __exit__(self, *_: object) -> None:
        now, cpu = _processes(), _machine()
        ticks = (perf_counter() - self._began) * os.sysconf("SC_CLK_TCK")
        ours = _family(now)
        # Others that have ended since are in no list, but in what was taken in all.
        mine = sum(sum(now[pid][2:]) - sum(self._processes.get(pid, _NEW)[2:]) for pid in ours)
        self.share = max(0.0, cpu[0] - self._cpu[0] - mine) / ticks
        self.stolen = (cpu[1] - self._cpu[1]) / ticks
        others: Counter[str] = Counter()
        for pid in now.keys() - ours:
            others[now[pid].name] += now[pid].ticks - self._processes.get(pid, _NEW).ticks
        named = [(name, count / ticks) for name, count in others.most_common(TOLD) if count / ticks >= LITTLE]
        self.names = ", ".join(f"{name} {share:.2f}" for name, share in named)


def _machine() -> tuple[int, int]:
    """Ticks of all processes, and of the hypervisor: proc(5). Interrupts are left out, nobody's in particular."""
    user, nice, system, _, _, _, _, stolen = map(int, Path("/proc/stat").read_text().split(None, 9)[1:9])
    return user + nice + system, stolen


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                head, _, rest = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue  # it has ended
            fields = rest.split()
            found[int(entry.name)] = _Process(
                head.partition("(")[2],
                int(fields[1]),
                int(fields[11]) + int(fields[12]),
                int(fields[13]) + int(fields[14]),
            )
    return found


def _family(processes: dict[int, _Process]) -> set[int]:
    """This process and its children, and theirs."""
    family = {os.getpid()}
    while more := {pid for pid, each in processes.items() if each.parent in family} - family:
        family |= more
    return family
