"""Measures what is written down of calls, and what that costs: CPU for each lightweight call, in interleaved rounds.

    python bench/record.py [--seconds 5] [--rounds 5]

In each round a broker is measured as it is, one without time lines (bench/unrecorded.py), and one that writes no audit
entries either. The load is that of bench/python_load.py, flat out, once the memory for records is full.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from aims import Aim
from broker import Broker, provision
from child import machine, prepare, progress
from python_load import DEVICES, Load, connect_device

RECENT = 10_000
UNRECORDED = Path(__file__).with_name("unrecorded.py")


class Way(NamedTuple):
    """How the broker runs."""

    program: Path | None
    """Instead of twistd."""
    audit: bool
    """Whether calls are in the audit log."""


WAYS = {
    "with time lines": Way(None, audit=True),
    "without": Way(UNRECORDED, audit=True),
    "without, and without audit entries": Way(UNRECORDED, audit=False),
}


def cpu_of_a_call(directory: Path, ids: list[str], way: Way, seconds: float) -> float:
    """Microseconds of the broker."""
    broker = Broker(directory, program=way.program, RPCBROKER_AUDIT_CALLS=str(way.audit).lower())
    broker.log_in()
    load = Load(broker, ids, [connect_device(broker, f"B{number}") for number in range(DEVICES)])
    while len(load.latencies) < 1.2 * RECENT:
        load.flat_out(1)
    load.latencies.clear()
    before = broker.cpu_seconds()
    load.flat_out(seconds)
    spent = broker.cpu_seconds() - before
    broker.stop()
    if load.errors:
        raise SystemExit(f"{load.errors} calls failed")
    return 1e6 * spent / len(load.latencies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    prepare()
    print(machine(), flush=True)
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        first = Broker(Path(directory))
        first.stop()
        ids = provision(first.state, DEVICES)
        for number in range(options.rounds):
            for name, way in WAYS.items() if number % 2 else reversed(WAYS.items()):
                progress(f"calls {name}: round {number + 1} of {options.rounds}")
                found[name].append(cpu_of_a_call(Path(directory), ids, way, options.seconds))
    for name, each in found.items():
        print(f"calls {name}: {median(each):.0f} us of CPU ({min(each):.0f} to {max(each):.0f})")
    ratio = median(found["with time lines"]) / median(found["without"])
    print(f"calls with time lines:\n  {Aim(1.05, figure='CPU', of='those without', most=True).tell(ratio)}", flush=True)


if __name__ == "__main__":
    main()
