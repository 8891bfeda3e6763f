"""Measurements in interleaved rounds, of the broker and of its peers: medians and ratios."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import peers
from aims import Aim
from beside import Beside
from broker import Broker, provision
from child import Child, machine, prepare, progress

OURS = "rpcbroker"
WARM_UP = 1.0
"""Seconds of load that are not counted; no more than those that are."""
FIGURES = {"rate": "rate", "broker_us": "CPU", "p50_ms": "p50", "p99_ms": "p99", "kb_each": "KB each"}
"""What they are called where they are told."""


class Result(msgspec.Struct):
    """What the load says of one run; `broker_us` is the broker's CPU time for an operation."""

    rate: float
    broker_us: float
    broker_share: float
    load_share: float
    valid: bool
    p50_ms: float
    p99_ms: float
    last: list[int] = []
    again: int = 0
    """Requests that were lost, and sent again."""
    kb_each: float = 0
    others: float = 0
    """Share of a core that the machine's other processes took meanwhile; `stolen`, the hypervisor."""
    stolen: float = 0
    named: str = ""
    """Some of those processes."""

    def beside(self, others: Beside) -> Result:
        """The same, and what else ran."""
        self.others, self.stolen, self.named = others.share, others.stolen, others.names
        return self


class Round(NamedTuple):
    """One kind of measurement, of what is called `names`: ourselves, other ways of ours, and peers.

    An Aim's `figure` is a field of Result, and its `of` one of the names.
    """

    title: str
    run: Callable[[Any, Any], Any]
    """Called with a Bench and a name it returns a Result; with all names, if it is `in_turn`, as many."""
    aims: tuple[Aim, ...] = ()
    names: tuple[str, ...] = (OURS,)
    memory: bool = False
    in_turn: bool = False

    def results(self, bench: Bench, names: Sequence[str]) -> Iterator[Result]:
        """Of each of these, in this order."""
        if self.in_turn:
            progress("  " + ", ".join(names) + " in turn")
            yield from self.run(bench, names)
            return
        for name in names:
            progress(f"  {name}")
            yield self.run(bench, name)


class Load(NamedTuple):
    """One of several, each with a server of its own: what Bench.run takes."""

    server: Any
    port: int
    arguments: tuple[float, ...]
    told: str


class Bench:
    """Where the measurements happen, how long they take, and the load: a C program beside this file."""

    def __init__(self, directory: Path, source: str, *libraries: str, devices: int, seconds: float) -> None:
        """`libraries` are what the load is linked with, as options of cc. Raises SystemExit."""
        self.directory = directory
        self.seconds = seconds
        self.warm_up = min(WARM_UP, seconds)
        self.load = str(directory / "load")
        path = Path(__file__).with_name(source)
        try:
            subprocess.run(["cc", "-O2", "-Wall", "-o", self.load, str(path), *libraries], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"the load cannot be compiled: {error}") from None
        first = Broker(directory)
        first.stop()
        self.ids = provision(first.state, devices)

    def run(self, server: Any, mode: str, port: int, *arguments: float, told: str = "") -> Result:
        """What the load finds. Its arguments are the port, the process id of the server, and these."""
        command = [self.load, mode, *map(str, (port, server.pid, *arguments))]
        with Beside() as beside:
            done = subprocess.run(
                command, input=told, capture_output=True, text=True, timeout=self.seconds + 120, check=False
            )
        if done.returncode:
            raise server.failure(done.stderr.strip())
        return msgspec.json.decode(done.stdout, type=Result).beside(beside)

    def run_in_turn(self, mode: str, loads: Sequence[Load]) -> list[Result]:
        """What each load finds. All of them are there at once, and at any time one is at work."""
        pipes = [os.pipe() for _ in loads]
        children = []
        with Beside() as beside:
            for number, (server, port, arguments, told) in enumerate(loads):
                turn = pipes[number][0], pipes[(number + 1) % len(pipes)][1]
                command = [self.load, mode, *map(str, (port, server.pid, *arguments, *turn))]
                more = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "pass_fds": turn}
                children.append(child := Child("load", command, self.directory, **more))
                child.process.stdin.write(told)
                child.process.stdin.close()
            os.write(pipes[0][1], b"\0")
            for end in chain(*pipes):
                os.close(end)  # so that the end of one load ends all
            said = [child.process.stdout.read() for child in children]
        for child in children:
            child.process.stdout.close()
            if child.process.wait(20):
                raise child.failure("failed:")
        return [msgspec.json.decode(each, type=Result).beside(beside) for each in said]

    def copy_of_state(self, name: str) -> Path:
        """A directory for one more broker, with the same devices."""
        directory = self.directory / name
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.directory / "state", directory / "state")
        return directory

    def callers(self, server: Broker, devices: int) -> str:
        """What the load has to be told of callers: the token of one, and ids of devices."""
        server.log_in()
        return "\n".join((server.token, *self.ids[:devices]))

    def compare_last(self, server: Broker, last: list[int]) -> None:
        """Every device's last value must be the one that was last acknowledged. Raises SystemExit."""
        server.log_in()
        wrong = []
        ids = self.ids[: len(last)]
        for number, (device_id, sent) in enumerate(zip(ids, last, strict=True)):
            path = f"/api/plugins/telemetry/DEVICE/{device_id}/values/timeseries?keys=temperature"
            try:
                kept = server.ask(path)["temperature"][0]["value"]
            except (OSError, LookupError) as error:
                raise SystemExit(f"device d{number}: its last value cannot be read back: {error!r}") from None
            if str(kept) != f"{sent}.5":
                wrong.append(f"d{number} has {kept} and not {sent}.5")
        if wrong:
            raise SystemExit(f"{len(wrong)} of {len(ids)} last values were acknowledged and not kept: {wrong[0]}")


def main(
    document: str | None,
    rounds: Mapping[str, Round],
    source: str,
    *libraries: str,
    devices: int,
    beside: Mapping[str, str] | None = None,
) -> None:
    """A benchmark program. `beside` has the peers by the names that rounds give them, with the programs that they are;
    `source` and `libraries` are as a Bench takes them, `devices` is how many there are. Raises SystemExit.
    """
    beside = beside or {}
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(rounds), help="of " + ", ".join(rounds))
    parser.add_argument("--peers", default=",".join(beside), help="empty for none")
    options = parser.parse_args()
    kinds, others = options.only.split(","), [name for name in options.peers.split(",") if name]
    if unknown := {*kinds, *others} - {*rounds, *beside}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    programs = dict.fromkeys(beside[name] for name in others)
    print(machine() + "".join(f", {peers.version(program)}" for program in programs), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), source, *libraries, devices=devices, seconds=options.seconds)
        measure(bench, {key: rounds[key] for key in kinds}, others, options.rounds)


def measure(bench: Bench, rounds: Mapping[str, Round], names: Iterable[str], number: int) -> None:
    """So many rounds of each kind, the broker and its peers in turn; `names` are those of the peers to be measured.

    What is called `rpcbroker, ...` is a way of ours, and always measured.
    """
    for key, kind in rounds.items():
        found: dict[str, list[Result]] = {
            name: [] for name in kind.names if name.partition(",")[0] == OURS or name in names
        }
        for each in range(number):
            progress(f"{key}: round {each + 1} of {number}")
            order = [*reversed(found)] if each % 2 else [*found]  # the machine's speed may have a slope
            for name, result in zip(order, kind.results(bench, order), strict=True):
                found[name].append(result)
        print(f"{kind.title}:")
        width = max(map(len, found))
        for name, results in found.items():
            print(f"  {name:{width}} {describe(results, memory=kind.memory)}")
        print("".join(f"  {line}\n" for line in compare(found, kind.aims)), end="", flush=True)


def chosen(results: list[Result]) -> list[Result]:
    """The valid ones; all if none is."""
    return [result for result in results if result.valid] or results


def medians(results: list[Result]) -> dict[str, float]:
    """Of each figure, over those that are chosen."""
    names = *FIGURES, "broker_share", "load_share", "others", "stolen"
    return {name: median(getattr(result, name) for result in chosen(results)) for name in names}


def describe(results: list[Result], *, memory: bool) -> str:
    """One line of figures."""
    m = medians(results)
    lowest, highest = min(result.rate for result in results), max(result.rate for result in results)
    invalid = sum(not result.valid for result in results)
    again = sum(result.again for result in results)
    busiest = max(results, key=lambda result: result.others).named
    return (
        f"{m['rate']:>9,.0f}/s ({lowest:,.0f} to {highest:,.0f}), {m['broker_us']:.1f} us of CPU each, "
        f"p50 {m['p50_ms']:.2f} ms, p99 {m['p99_ms']:.1f} ms"
        + (f", {m['kb_each']:.1f} KB each" if memory else "")
        + f"; broker {m['broker_share']:.2f} core, load {m['load_share']:.2f} core, others {m['others']:.2f} core"
        + (f" (at most: {busiest})" if busiest else "")
        + (f", stolen {m['stolen']:.2f} core" if m["stolen"] >= 0.005 else "")
        + (f"; {again} requests were lost and sent again" if again else "")
        + (f"; {invalid} of {len(results)} NOT VALID: the load took more than 0.8 core" if invalid else "")
    )


def compare(found: dict[str, list[Result]], aims: Iterable[Aim]) -> list[str]:
    """Our figures in parts of each peer's, and what was wanted of them.

    An aim counts when our results and the peer's are valid, more than half of them.
    """
    figures = {name: medians(results) for name, results in found.items()}
    ours = figures[OURS]
    lines = [
        f"{OURS} / {name}: "
        + ", ".join(
            f"{FIGURES[key]} {ours[key] / theirs[key]:.2f}" for key in ("rate", "broker_us", "p50_ms", "p99_ms")
        )
        for name, theirs in figures.items()
        if name != OURS
    ]
    for aim in aims:
        if aim.of and aim.of not in found:
            continue
        value = ours[aim.figure] / (figures[aim.of][aim.figure] if aim.of else 1)
        lines.append(aim._replace(figure=FIGURES[aim.figure]).tell(value, valid=all(map(_sound, _of(found, aim)))))
    return lines


def _of(found: dict[str, list[Result]], aim: Aim) -> list[list[Result]]:
    return [found[OURS], found[aim.of or OURS]]


def _sound(results: list[Result]) -> bool:
    return 2 * sum(result.valid for result in results) > len(results)
