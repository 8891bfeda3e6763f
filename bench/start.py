"""Measures how long the broker takes from its start to the first accept, and its memory at rest; prints medians.

    python bench/start.py [--rounds 5]

Memory is the resident set, a second after the first accept.
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


def start(directory: Path) -> tuple[float, float]:
    """Seconds to the first accept, and MB."""
    broker = Broker(directory)
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
    with Beside() as beside:
        for number in range(options.rounds):
            progress(f"start: round {number + 1} of {options.rounds}")
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                new.append(start(Path(directory)))
                later.append(start(Path(directory)))
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
