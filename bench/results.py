"""Runs the benchmark programs, prints what was wanted and found, and writes it all to bench/RESULTS.md.

    python bench/results.py [--only rpc,mqtt,...] [--quick]

With --only the sections of other programs stay in the file as they are. With --quick it is one short round of what
tells most, in a minute, and nothing is written. Exit code 1 if a program failed; its section stays as it was.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from aims import Verdict, verdicts
from child import prepare

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
TOP = """\
# Results

Written by `python bench/results.py`, which `make bench` calls: change nothing here by hand. `docs/benchmarks.md` says
how the programs work and what the figures mean. Each section has the machine, the time and the load average at its
beginning; `others` is what processes that are not of the benchmark took meanwhile. Where they took much, they shared
the cores with broker and load: then CPU for each operation says more than rates.
"""
WANTED = "What was wanted"


class Program(NamedTuple):
    """One that is run with these arguments, by the name of its file without `.py`."""

    name: str
    arguments: str = ""

    @property
    def command(self) -> str:
        return f"python bench/{self.name}.py {self.arguments}".rstrip()


PROGRAMS = (
    Program("rpc"),
    Program("mqtt"),
    Program("coap"),
    Program("http_devices"),
    Program("memory"),
    Program("start"),
    Program("feed"),
    Program("rules"),
    Program("persistent"),
    Program("record"),
    Program("backlog"),
)
QUICK = (
    Program("rpc", "--seconds 1 --rounds 1 --only rpc --peers bridge"),
    Program("mqtt", "--seconds 0.5 --rounds 1 --only ingest-1,rpc,connect-1k"),
    Program("coap", "--seconds 0.5 --rounds 1 --only post"),
)


def run(program: Program) -> str | None:
    """What it printed, which is printed here as well; None if it failed. Its progress goes to stderr."""
    print(f"\n$ {program.command}", flush=True)
    command = [sys.executable, str(HERE / f"{program.name}.py"), *program.arguments.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        except BaseException:
            process.send_signal(signal.SIGTERM)  # then it ends what it has started
            raise
    if process.returncode:
        print(f"{program.name} FAILED with status {process.returncode}", flush=True)
        return None
    return "".join(lines)


def section(program: Program, printed: str) -> str:
    """Of one program, as it stands in the file."""
    return f"`{program.command}`\n\n```\n{printed.strip()}\n```\n"


def sections(text: str) -> dict[str, str]:
    """The sections of the file by their headings, without what is above the first."""
    parts = re.split(r"^## (.+)\n+", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def table(found: dict[str, str]) -> str:
    """A row for each line that says what was wanted, under the line that says of what."""
    rows = ["| program | of | wanted | floor | found | |", "|---|---|---|---|---|---|"]
    for name, text in found.items():
        title = ""
        for line in text.splitlines():
            for each in verdicts(line):
                rows.append(_row(name, title, each))
            if line and not line.startswith(" "):
                title = line[:-1] if line.endswith(":") else line.partition(":")[0]
    return "\n".join(rows) + "\n"


def _row(name: str, title: str, each: Verdict) -> str:
    sign = "≤" if each.bound == "most" else "≥"
    floor = each.floor and f"{sign} {each.floor}"
    return f"| {name} | {title}: {each.what} | {sign} {each.wanted} | {floor} | {each.found} | {each.verdict} |"


def document(kept: dict[str, str]) -> str:
    """The file. Programs are in the order of the list."""
    ordered = {program.name: kept[program.name] for program in PROGRAMS if program.name in kept}
    text = f"{TOP}\n## {WANTED}\n\n{table(ordered)}"
    return text + "".join(f"\n## {name}\n\n{body.strip()}\n" for name, body in ordered.items())


def main() -> int:
    names = [program.name for program in PROGRAMS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(names), help="of " + ", ".join(names))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if unknown := {*options.only.split(",")} - {*names}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    chosen = QUICK if options.quick else [each for each in PROGRAMS if each.name in options.only.split(",")]
    kept = sections(RESULTS.read_text()) if RESULTS.exists() else {}
    found, failed, began = {}, 0, time.monotonic()
    for program in chosen:
        printed = run(program)
        if printed is None:
            failed += 1
            continue
        found[program.name] = section(program, printed)
        if not options.quick:
            RESULTS.write_text(document(kept | found))
    print(f"\n{table(found)}\nin {time.monotonic() - began:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
