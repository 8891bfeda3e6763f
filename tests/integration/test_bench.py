"""The benchmarks in short, so that they go on working; and how results are told, read again and kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench"


def run(program: str, *options: str) -> str:
    command = [sys.executable, str(BENCH / program), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return import_module("results")


@pytest.fixture
def aim(results: Any) -> Any:
    return import_module("aims").Aim


def test_rounds_of_mqtt_end_well() -> None:
    said = run(
        "mqtt.py",
        "--seconds",
        "0.3",
        "--rounds",
        "1",
        "--peers",
        "",
        "--only",
        "ingest-1,ingest-10,rpc,connect-1k,arrive-1k",
    )
    rates = re.findall(r"^  rpcbroker +([0-9,]+)/s .* us of CPU each.*; broker .*, others ", said, re.MULTILINE)
    assert len(rates) == 5, said
    assert all(int(rate.replace(",", "")) > 0 for rate in rates), said


def test_a_round_of_coap_ends_well() -> None:
    said = run("coap.py", "--seconds", "0.3", "--rounds", "1", "--peers", "")
    assert len(re.findall(r"^  rpcbroker +[0-9,]+/s ", said, re.MULTILINE)) == 2, said


def test_where_the_time_of_a_call_goes_is_told_to_the_end() -> None:
    said = run("inside_call.py", "--calls", "20")
    assert re.search(r"^[0-9.]+ us a call at best, ", said, re.MULTILINE), said
    assert re.search(r"^  core +[0-9]+ %$", said, re.MULTILINE), said
    assert re.search(r"^most of it in one function: [0-9]+ %, ", said, re.MULTILINE), said


def test_what_devices_take_is_told_by_parts() -> None:
    """Whatever the parts are, they are all of it."""
    told = re.findall(
        r"^(one by one|64 at once): .* MB; (\S+) KB each: .* objects (\S+), .* them (\S+), malloc (\S+), .* there (\S+), "
        r"else (\S+); given back what can be: \S+$",
        run("device_memory.py", "--devices", "200"),
        re.MULTILINE,
    )
    assert [title for title, *_ in told] == ["one by one", "64 at once"]
    for _, each, *parts in told:
        assert float(each) == pytest.approx(sum(map(float, parts)), abs=0.05)


@pytest.mark.parametrize(
    ("found", "most", "verdict"),
    [
        (8.0, False, "reached"),
        (7.9, False, "the floor is reached"),
        (4.9, False, "MISSED"),
        (8.0, True, "reached"),
        (8.1, True, "the floor is reached"),
        (11.1, True, "MISSED"),
    ],
)
def test_what_was_wanted_is_told_and_read_again(results: Any, aim: Any, found: float, most: bool, verdict: str) -> None:
    floor = 11 if most else 5
    line = aim(8, floor, of="another, 1,000", most=most).tell(found)
    (read,) = results.verdicts(f"title:\n  {line}\n")
    bound = "most" if most else "least"
    assert read == ("rate / another, 1,000", bound, "8", str(floor), f"{found:.3g}", verdict)


def test_what_cannot_be_believed_is_not_reached(results: Any, aim: Any) -> None:
    assert results.verdicts(aim(1).tell(2, valid=False))[0].verdict == "NOT VALID"


def test_a_run_of_some_programs_leaves_the_sections_of_the_others(results: Any, aim: Any) -> None:
    mqtt, coap = (next(each for each in results.PROGRAMS if each.name == name) for name in ("mqtt", "coap"))
    first = {
        "coap": results.section(coap, "machine\nPOST (GET: slow):\n  " + aim(3, of="peer").tell(4)),
        "mqtt": results.section(mqtt, "machine\nold: 1"),
    }
    kept = results.sections(results.document(first))
    again = results.document(kept | {"mqtt": results.section(mqtt, "machine\nnew: 2")})
    assert "old" not in again
    assert again.index("new: 2") < again.rindex("POST"), "in the order of the programs"
    assert "| coap | POST (GET: slow): rate / peer | ≥ 3 |  | 4 | reached |" in again
    assert results.document(results.sections(again)) == again


def test_what_is_not_of_the_benchmark_is_counted_also_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    beside = import_module("beside")
    mine, second = os.getpid(), os.sysconf("SC_CLK_TCK")
    process = beside._Process
    looks = iter(
        [
            {mine: process("python", 1, 10, 0), 7: process("browser", 1, 5, 0)},
            {
                mine: process("python", 1, 10 + second, second // 4),
                8: process("load", mine, second // 4, 0),
                7: process("browser", 1, 5 + second // 5, 0),
                9: process("idle", 1, 0, 0),
            },
        ]
    )
    monkeypatch.setattr(beside, "_processes", lambda: next(looks))
    monkeypatch.setattr(beside, "_machine", iter([(0, 0), (2 * second, second // 10)]).__next__)
    monkeypatch.setattr(beside, "perf_counter", iter([100.0, 101.0]).__next__)
    with beside.Beside() as others:
        pass
    assert others.share == pytest.approx(0.5), "2.0 of a core in all, 1.0 of this process, 0.25 of each child"
    assert others.stolen == pytest.approx(0.1)
    assert others.names == "browser 0.20", "0.3 was taken by what has ended"


def test_something_grows_when_the_end_is_above_the_second_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    soak = import_module("soak")
    looks = [dict.fromkeys(soak.KINDS, 100.0) for _ in range(16)]
    for number, look in enumerate(looks):
        look["files"] = 300 + number
        look["MB"] = min(number, 4) * 50
        look["deadlines"] = 100 + number % 2
    assert soak.grown(looks) == {"files": (305.5, 313.5)}
