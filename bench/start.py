"""Measures how long the broker takes from its start to the first accept, and its memory at rest; prints medians.

    python bench/start.py [--rounds 5]

Memory is the resident set, a second after the first accept. All byte code is there, as pip leaves it: one start before
those that count has written it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from aims import Aim
from beside import Beside
from broker import Broker
from child import machine, prepare, progress

REST = 1.0
"""Seconds until memory is looked at."""


def byte_code_in(directory: Path) -> dict[str, str]:
    """An environment for Python programs that keep all their byte code there, whatever this one does with its own."""
    return {"PYTHONPYCACHEPREFIX": str(directory), "PYTHONDONTWRITEBYTECODE": ""}


def start(directory: Path, byte_code: Path) -> tuple[float, float]:
    """Seconds to the first accept, and MB."""
    broker = Broker(directory, **byte_code_in(byte_code))
    time.sleep(REST)
    found = broker.start_seconds, broker.rss_kb() / 1024
    broker.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    prepare()
    print(machine(), flush=True)
    new, later = [], []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, Beside() as beside:
        for number in range(options.rounds + 1):
            progress(f"start: round {number} of {options.rounds}")
            directory = Path(name) / f"round-{number}"
            directory.mkdir()
            both = [start(directory, Path(name) / "byte code") for _ in range(2)]
            if number:
                new.append(both[0])
                later.append(both[1])
    for title, found in (("first start, with a new store", new), ("later start", later)):
        seconds, memory = zip(*found, strict=True)
        print(
            f"{title}: accepts after {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), "
            f"{median(memory):.0f} MB at rest"
        )
    seconds, memory = zip(*later, strict=True)
    print(f"  others {beside.share:.2f} core meanwhile")
    print(f"  {Aim(0.9, figure='seconds to the first accept', most=True).tell(median(seconds))}")
    print(f"  {Aim(70, figure='MB at rest', most=True).tell(median(memory))}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
