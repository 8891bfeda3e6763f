"""Measurements in interleaved rounds, of the broker and of its peers: medians and ratios."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
from broker import Broker, provision
from child import progress

OURS = "rpcbroker"
WARM_UP = 1.0
"""Seconds of load that are not counted."""


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


class Round(NamedTuple):
    """One kind of measurement. `wanted` is the least ratio of rates that the project asks for, for each peer."""

    title: str
    run: Callable[[Any, str], Result]
    """Called with a Bench and a name."""
    wanted: Mapping[str, float] = {}
    names: tuple[str, ...] = (OURS,)
    memory: bool = False


class Bench:
    """Where the measurements happen, how long they take, and the load: a C program beside this file."""

    def __init__(self, directory: Path, source: str, *, devices: int, seconds: float, read_back: bool = True) -> None:
        self.directory = directory
        self.seconds = seconds
        self.read_back = read_back
        self.load = str(directory / "load")
        path = Path(__file__).with_name(source)
        try:
            subprocess.run(["cc", "-O2", "-Wall", "-o", self.load, str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"the load cannot be compiled: {error}") from None
        first = Broker(directory)
        first.stop()
        self.ids = provision(first.state, devices)

    def run(self, server: Any, mode: str, port: int, *arguments: float, told: str = "") -> Result:
        """What the load finds. Its arguments are the port, the process id of the server, and these."""
        command = [self.load, mode, *map(str, (port, server.process.pid, *arguments))]
        done = subprocess.run(
            command, input=told, capture_output=True, text=True, timeout=self.seconds + 120, check=False
        )
        if done.returncode:
            raise server.failure(done.stderr.strip())
        return msgspec.json.decode(done.stdout, type=Result)

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


def measure(bench: Bench, rounds: Mapping[str, Round], names: Iterable[str], number: int) -> None:
    """So many rounds of each kind, the broker and its peers in turn; `names` are those of the peers to be measured."""
    for key, kind in rounds.items():
        found: dict[str, list[Result]] = {name: [] for name in kind.names if name in (OURS, *names)}
        for each in range(number):
            for name, results in found.items():
                progress(f"{key}: round {each + 1} of {number}, {name}")
                results.append(kind.run(bench, name))
        print(f"{kind.title}:")
        for name, results in found.items():
            print(f"  {name:10}{describe(results, memory=kind.memory)}")
        print("".join(f"  {line}\n" for line in compare(found, kind.wanted)), end="", flush=True)


def medians(results: list[Result]) -> dict[str, float]:
    """Of each figure, over the valid results; over all if none is."""
    chosen = [result for result in results if result.valid] or results
    names = "rate", "broker_us", "broker_share", "load_share", "p50_ms", "p99_ms", "kb_each"
    return {name: median(getattr(result, name) for result in chosen) for name in names}


def describe(results: list[Result], *, memory: bool) -> str:
    """One line of figures."""
    m = medians(results)
    lowest, highest = min(result.rate for result in results), max(result.rate for result in results)
    invalid = sum(not result.valid for result in results)
    again = sum(result.again for result in results)
    return (
        f"{m['rate']:>9,.0f}/s ({lowest:,.0f} to {highest:,.0f}), {m['broker_us']:.1f} us of CPU each, "
        f"p50 {m['p50_ms']:.1f} ms, p99 {m['p99_ms']:.1f} ms"
        + (f", {m['kb_each']:.1f} KB each" if memory else "")
        + f"; broker {m['broker_share']:.2f} core, load {m['load_share']:.2f} core"
        + (f"; {again} requests were lost and sent again" if again else "")
        + (f"; {invalid} of {len(results)} NOT VALID: the load took more than 0.8 core" if invalid else "")
    )


def compare(found: dict[str, list[Result]], wanted: Mapping[str, float]) -> list[str]:
    """A line for each peer: our rate and CPU time in parts of the peer's."""
    lines = []
    ours = medians(found[OURS])
    for name, results in found.items():
        if name != OURS:
            theirs = medians(results)
            line = f"{OURS} / {name}: rate {ours['rate'] / theirs['rate']:.2f}"
            if name in wanted:
                line += f" (wanted: {wanted[name]:g})"
            lines.append(f"{line}, CPU {ours['broker_us'] / theirs['broker_us']:.2f}")
    return lines
