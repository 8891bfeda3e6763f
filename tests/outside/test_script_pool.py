"""Processes of scripts: who is blamed, who runs when, what they hold, and that none is left.

Over 400 lines: all of it needs real processes, and what tells them apart.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from pathlib import Path
from statistics import quantiles
from uuid import UUID

import pytest
import pytest_twisted
from script_pools import MESSAGE, OTHER, TENANT, a_pool, failing, failure, js, open_files, pids_of, run, tbel
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from rpcbroker.core.settings import RulesSettings
from rpcbroker.outside import script_process, scripts
from rpcbroker.outside.script_process import worker_command
from rpcbroker.outside.scripts import ScriptPool
from rpcbroker.rules.ports import ScriptFailed

BOMB = "return /(a+)+$/.test('a'.repeat(40) + 'b')"
LOOP = "for (;;);"
REFUSED = {"x86_64": (141, 272), "aarch64": (140, 97)}
"""Machine -> its numbers of setpriority and unshare."""
FILTERED = """
import ctypes, os, struct, sys
numbers = [int(each) for each in sys.argv[1].split(",")]
code = [(0x20, 0, 0, 0)]  # the number of the system call
code += [(0x15, len(numbers) - place, 0, each) for place, each in enumerate(numbers)]
code += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x50001)]  # allowed; EPERM
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
program = Program(len(code), b"".join(struct.pack("HBBI", *each) for each in code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs a program without these system calls, as systemd does it."""
MAIN = "from rpcbroker.outside.script_worker import main; main(1 << 26, 1 << 20)"


def field(pid: int, name: str) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line.split(":", 1)[1].strip() for line in status.splitlines() if line.startswith(name + ":"))


async def until(condition: object, *, seconds: float = 10.0) -> None:
    """Wait for something that a process does."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        await deferLater(reactor, 0.005)


# -- processes


@pytest_twisted.ensureDeferred
async def test_no_process_is_started_before_a_script_has_to_run() -> None:
    async with a_pool() as pool:
        assert pool.workers == 0
        assert await run(pool, "return 1") == 1
        assert pool.workers == 1, "one is enough as long as it is not busy"


@pytest_twisted.ensureDeferred
async def test_further_processes_are_started_when_those_there_are_busy_and_never_too_many() -> None:
    async with a_pool(script_workers=3) as pool:
        assert await gatherResults([run_(pool, "return msg", n) for n in range(1000)]) == list(range(1000))
        assert 1 < pool.workers <= 3
        assert pool.waiting == 0


@pytest_twisted.ensureDeferred
async def test_runs_of_a_script_are_over_in_the_order_in_which_they_were_asked_for() -> None:
    """Or else messages of a device would overtake each other in the chain."""
    over: list[int] = []
    uneven = "for (let i = 0; msg % 10 === 0 && i < 20000; i++); return msg"
    async with a_pool(script_workers=2) as pool:
        await gatherResults([run_(pool, uneven, n).addCallback(over.append) for n in range(1000)])
        assert pool.workers == 2
    assert over == list(range(1000))


def run_(pool: ScriptPool, source: str, *values: object, tenant: UUID = TENANT) -> Deferred[object]:
    return pool.run(tenant, js(source), [*values, {}, ""] if values else MESSAGE)


@pytest_twisted.ensureDeferred
async def test_a_process_holds_nothing_of_the_brokers() -> None:
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)
    os.environ["RPCBROKER_SECRET"] = "x"
    try:
        async with a_pool() as pool:
            await pool.run(TENANT, tbel("msg.temperature"), MESSAGE)
            (pid,) = pids_of(pool)
            assert set(open_files(pid)) == {"0", "1", "2"}
            assert Path(f"/proc/{pid}/environ").read_bytes() == b""
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            assert field(pid, "NoNewPrivs") == "1"
            if os.geteuid() == 0:
                assert field(pid, "Uid").split() == ["65534"] * 4
                assert field(pid, "Groups") == ""
                assert int(field(pid, "CapEff"), 16) == 0
                assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
            limits = Path(f"/proc/{pid}/limits").read_text()
            for name, most in (("open files", 3), ("processes", 0), ("core file size", 0), ("file size", 0)):
                assert next(line for line in limits.splitlines() if f"Max {name}" in line).split()[-3:-1][0] == str(
                    most
                )
            assert int(field(pid, "VmRSS").split()[0]) < 20_000
    finally:
        os.close(secret)
        del os.environ["RPCBROKER_SECRET"]


@pytest_twisted.ensureDeferred
async def test_scripts_run_where_the_system_lets_a_process_give_up_less(tmp_path: Path) -> None:
    program = tmp_path / "filtered"
    program.write_text(FILTERED)
    refused = ",".join(map(str, REFUSED[platform.machine()]))
    async with a_pool(
        command=lambda settings: [sys.executable, str(program), refused, *worker_command(settings)]
    ) as pool:
        assert await run(pool, "return msg.temperature") == 20
        (pid,) = pids_of(pool)
        assert field(pid, "Seccomp") == "2"
        assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")


@pytest_twisted.ensureDeferred
async def test_no_file_stays_open_in_the_broker_when_processes_come_and_go() -> None:
    async with a_pool(script_timeout=0.02) as pool:
        await run(pool, "return 1")
    before = open_files()
    async with a_pool(script_timeout=0.02) as pool:
        for n in range(6):
            await failure(pool, f"{BOMB} // {n}")
        assert pool.counts.kills == 6
        assert await run(pool, "return 1") == 1
    assert open_files().keys() == before.keys()


@pytest_twisted.ensureDeferred
async def test_whatever_waits_at_the_end_is_told() -> None:
    async with a_pool(script_workers=1) as pool:
        await run(pool, "return 1")
        waiting = [run_(pool, LOOP), *(run_(pool, "return 1") for _ in range(10))]
        ended = pool.stop()
        for each in waiting:
            assert await failing(each) == "the broker is stopping"
        await ended
        assert await failure(pool, "return 1") == "the broker is stopping"


@pytest_twisted.ensureDeferred
async def test_a_process_that_has_not_started_yet_is_ended_too() -> None:
    async with a_pool() as pool:
        waiting = run_(pool, "return 1")
        await pool.stop()
        assert await failing(waiting) == "the broker is stopping"


@pytest_twisted.ensureDeferred
async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    async with a_pool(script_workers=1) as pool:
        waiting = [run_(pool, "return 1") for _ in range(500)]
        for each in waiting:
            each.addErrback(lambda failure: None)
            each.cancel()
        assert await run(pool, "return 2") == 2
        assert pool.waiting == 0


# -- what fails, and who is blamed


@pytest_twisted.ensureDeferred
async def test_a_kill_fails_only_the_script_that_was_running() -> None:
    """Those that were given to the process behind it are run again."""
    async with a_pool(script_workers=1, script_timeout=0.1) as pool:
        trap = "if (msg === 'bomb') { /(a+)+$/.test('a'.repeat(40) + 'b') } return msg"
        await gatherResults([run_(pool, trap, n) for n in range(200)])  # it is known to be short
        values = [*range(20), "bomb", *range(20, 60)]
        waiting = [run_(pool, trap, value) for value in values]
        (worker,) = pool._workers
        assert len(worker.jobs) > 21, "innocent ones stand behind it"
        for value, each in zip(values, waiting, strict=True):
            if value == "bomb":
                assert await failing(each) == "the script took longer than 100 ms"
            else:
                assert await each == value
        assert pool.counts.kills == pool.counts.runaways == 1


@pytest_twisted.ensureDeferred
async def test_what_waits_for_the_process_that_is_killed_runs_in_the_next_one() -> None:
    """Also what that was not given yet, and what from then on runs alone."""
    async with a_pool(script_workers=1, script_timeout=0.1) as pool:
        trap = """
        if (msg === 'bomb') { /(a+)+$/.test('a'.repeat(40) + 'b') }
        for (let begun = Date.now(); Date.now() - begun < 2;);
        return msg"""
        await gatherResults([run_(pool, trap, n) for n in range(20)])  # it is known to take some time
        bomb, *waiting = [run_(pool, trap, value) for value in ("bomb", *range(10))]
        assert pool.waiting > 5
        assert await failing(bomb) == "the script took longer than 100 ms"
        assert await gatherResults(waiting) == [*range(10)]


@pytest_twisted.ensureDeferred
async def test_a_run_whose_process_is_killed_from_outside_is_done_again() -> None:
    async with a_pool(script_workers=1, script_timeout=5.0) as pool:
        source = "for (let begun = Date.now(); Date.now() - begun < 300;); return msg"
        waiting = run_(pool, source, 7)
        await until(lambda: pool._workers and pool._workers[0].jobs)
        os.kill(pids_of(pool)[0], signal.SIGKILL)
        assert await waiting == 7
        assert (pool.counts.kills, pool.counts.failures) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_a_run_that_ends_its_process_twice_fails() -> None:
    async with a_pool(script_workers=1, script_timeout=5.0) as pool:
        waiting = run_(pool, LOOP)
        for _ in range(2):
            await until(lambda: pool._workers and pool._workers[0].jobs)
            pid = pids_of(pool)[0]
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: pid not in pids_of(pool))
        assert await failing(waiting) == "the script's process ended twice: the process was ended by signal 9"
        assert await run(pool, "return 1") == 1


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("raise ImportError('no quickjs')", "ImportError: no quickjs"),
        (
            "import sys; sys.modules['_quickjs'] = None; sys.path.insert(0, {root!r}); " + MAIN,
            "quickjs cannot be imported: import of _quickjs halted; None in sys.modules",
        ),
        ("pass", "the process exited with status 0"),
        ("import os; os.kill(os.getpid(), 11)", "the process was ended by signal 11"),
        ("print('hello', flush=True); input()", "it said more than it may"),
        ("import os; os.write(1, bytes([0, 0, 0, 2]) + b'[]'); input()", "it said what is no answer"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_process_that_cannot_start_fails_what_waits_and_says_why(program: str, text: str) -> None:
    root = str(Path(scripts.__file__).parents[2])
    start = [sys.executable, "-I", "-c", program.replace("{root!r}", repr(root))]
    async with a_pool(command=lambda settings: start) as pool:
        waiting = [run_(pool, "return 1") for _ in range(3)]
        for each in waiting:
            assert await failing(each) == f"scripts cannot be run here: {text}"
        assert await failure(pool, "return 1") == f"scripts cannot be run here: {text}", "at once, for a while"
        assert pool.workers == 0


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there_is_told() -> None:
    async with a_pool(command=lambda settings: ["/nowhere/python"]) as pool:
        assert (await failure(pool, "return 1")).startswith("scripts cannot be run here: ")


@pytest.mark.parametrize(
    "said",
    ["b'\\0\\0\\0\\2[]'", "b'\\0\\0\\0\\6[1,\"a\"'", "b'\\xff' * 100", "b'\\0\\0\\0\\2\\xff\\n'", "answer * 2"],
)
@pytest_twisted.ensureDeferred
async def test_a_process_that_says_nonsense_is_replaced(said: str) -> None:
    program = (
        "import os; ready = b'[\"ready\",0]\\n'; os.write(1, len(ready).to_bytes(4, 'big') + ready);"
        "text = b'[\"ok\",1]\\n7'; answer = len(text).to_bytes(4, 'big') + text;"
        f"os.read(0, 1 << 16); os.write(1, {said}); os.read(0, 1 << 16)"
    )
    real = script_process.worker_command
    commands = iter([[sys.executable, "-I", "-c", program]])
    async with a_pool(script_workers=1, command=lambda settings: next(commands, real(settings))) as pool:
        assert await run(pool, "return 7") == 7
        await until(lambda: pool.counts.kills == 1)
        assert await run(pool, "return 8") == 8


@pytest_twisted.ensureDeferred
async def test_a_script_that_runs_away_three_times_in_a_row_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "SUSPENDED_FOR", 0.3)
    async with a_pool(script_timeout=0.02) as pool:
        trap = "if (msg) for (;;); return 1"
        for wanted in (True, True, False, True, True):
            if wanted:
                assert await failing(run_(pool, trap, wanted)) == "the script took longer than 20 ms"
            else:
                assert await run_(pool, trap, wanted) == 1
        await failing(run_(pool, trap, True))
        text = await failing(run_(pool, trap, False))
        assert text.startswith("suspended: the script ran away 3 times in a row (the script took longer than 20 ms)")
        assert await run_(pool, trap, False, tenant=OTHER) == 1, "it is another tenant's, and has done nothing"
        assert await run(pool, "return 2") == 2
        assert (pool.counts.runaways, pool.counts.suspended) == (5, 1)
        await deferLater(reactor, 0.35)
        assert await failing(run_(pool, trap, True)) == "the script took longer than 20 ms"
        assert (await failing(run_(pool, trap, False))).startswith("suspended: "), "once more is enough"
        await deferLater(reactor, 0.35)
        assert await run_(pool, trap, False) == 1


@pytest_twisted.ensureDeferred
async def test_beyond_so_many_waiting_runs_of_a_tenant_one_more_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MAX_WAITING", 100)
    async with a_pool(script_workers=1) as pool:
        waiting = [run_(pool, "return 1") for _ in range(100)]
        assert await failure(pool, "return 1") == "100 scripts wait to be run already"
        waiting.append(run_(pool, "return 1", tenant=OTHER))
        assert await gatherResults(waiting) == [1] * 101


# -- who runs when


@pytest_twisted.ensureDeferred
async def test_a_thousand_runs_at_once_come_back_in_their_places() -> None:
    async with a_pool() as pool:
        waiting = [run_(pool, "return [msg, metadata]", n, tenant=UUID(int=n % 7)) for n in range(1000)]
        assert await gatherResults(waiting) == [[n, {}] for n in range(1000)]
        assert pool.counts.runs == 1000


@pytest_twisted.ensureDeferred
async def test_tenants_take_turns() -> None:
    """Who comes behind thousands of another's runs is not behind them."""
    async with a_pool(script_workers=1) as pool:
        await run(pool, "return 1")
        many = [run_(pool, "return 1") for _ in range(2000)]
        assert await run_(pool, "return 2", tenant=OTHER) == 2
        assert sum(each.called for each in many) < 1000
        await gatherResults(many)


@pytest.mark.parametrize("workers", [1, 2])
@pytest_twisted.ensureDeferred
async def test_short_and_long_scripts_of_many_tenants_all_get_their_turn(workers: int) -> None:
    long = "for (let begun = Date.now(); Date.now() - begun < 30;); return msg"
    async with a_pool(script_workers=workers, script_timeout=5.0) as pool:
        jobs = []
        for n in range(12):
            jobs.append(run_(pool, long, n, tenant=UUID(int=n % 3)))
            jobs += [run_(pool, "return msg", n, tenant=UUID(int=10 + n % 3)) for _ in range(20)]
        assert await gatherResults(jobs) == [n for n in range(12) for _ in range(21)]


@pytest.mark.parametrize("evil", [LOOP, BOMB])
@pytest_twisted.ensureDeferred
async def test_scripts_that_run_away_in_one_tenant_are_not_felt_in_another(evil: str) -> None:
    """New ones all the time, so that none is suspended: the others never stand behind them."""

    async def typical(pool: ScriptPool) -> list[float]:
        taken = []
        for _ in range(300):
            begun = time.perf_counter()
            assert await run_(pool, "return msg.temperature > 10", tenant=OTHER) is True
            taken.append(time.perf_counter() - begun)
            await deferLater(reactor, 0.002)
        return taken

    async with a_pool(script_workers=2, script_timeout=0.1) as pool:
        await gatherResults([run_(pool, "return 1", tenant=OTHER) for _ in range(500)])
        await typical(pool)
        going = True

        async def run_away() -> None:
            number = 0
            while going:
                number += 1
                await failing(run_(pool, f"{evil} // {number}"))

        evils = [Deferred.fromCoroutine(run_away()) for _ in range(5)]
        taken = await typical(pool)
        going = False
        await gatherResults(evils)
        assert pool.counts.runaways > 3
        assert quantiles(taken, n=100)[97] < 0.05, "half of what one of the others takes"


@pytest_twisted.ensureDeferred
async def test_a_tenant_that_has_just_come_runs_away_in_one_process_only() -> None:
    async with a_pool(script_workers=2, script_timeout=1.0) as pool:
        await gatherResults([run_(pool, "return 1", tenant=OTHER) for _ in range(500)])
        evils = [run_(pool, f"{LOOP} // {n}") for n in range(4)]
        begun = time.perf_counter()
        for _ in range(20):
            assert await run_(pool, "return 1", tenant=OTHER) == 1
        assert time.perf_counter() - begun < 0.7
        assert await failing(evils[0]) == "the script took longer than 1000 ms"
        for each in evils[1:]:
            each.addErrback(lambda failure: None)


@pytest_twisted.ensureDeferred
async def test_what_waits_for_the_proof_of_another_script_runs_then_also_if_that_one_dies() -> None:
    async with a_pool(script_workers=2, script_timeout=5.0) as pool:
        first = run_(pool, LOOP)
        rest = [run_(pool, f"return msg // {n}", n) for n in range(20)]
        for _ in range(2):
            await until(lambda: any(worker.jobs for worker in pool._workers))
            pid = next(worker.transport.pid for worker in pool._workers if worker.jobs)
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: pid not in pids_of(pool))
        assert "ended twice" in await failing(first)
        assert await gatherResults(rest) == list(range(20))
        assert pool.waiting == 0


@pytest_twisted.ensureDeferred
async def test_what_waits_of_a_tenant_takes_only_so_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MAX_WAITING_SIZE", 1 << 20)
    large = ["x" * 100_000, {}, ""]
    async with a_pool(script_workers=1) as pool:
        waiting = [run_(pool, "return msg.length", *large) for _ in range(11)]
        text = await failure(pool, "return 1", *large)
        assert text.startswith("scripts wait already with 1.0"), text
        waiting.append(run_(pool, "return msg.length", *large, tenant=OTHER))
        assert await gatherResults(waiting) == [100_000] * 12
        assert not any(lane.size for lane in pool._lanes.values())
        assert await run(pool, "return 1", *large) == 1


@pytest_twisted.ensureDeferred
async def test_what_waits_is_told_when_the_last_process_ends_and_no_other_can_start() -> None:
    starts = iter([script_process.worker_command(RulesSettings()), [sys.executable, "-c", "raise SystemExit(3)"]])

    async with a_pool(script_workers=2, script_timeout=5.0, command=lambda settings: next(starts)) as pool:
        assert await run(pool, "return 1") == 1
        (first,) = pids_of(pool)
        os.kill(first, signal.SIGSTOP)
        waiting = [run_(pool, "return 1") for _ in range(20)]
        await until(lambda: pool.counts.kills == 1)
        os.kill(first, signal.SIGKILL)
        texts = [await failing(each) for each in waiting]
        assert set(texts) == {"scripts cannot be run here: the process exited with status 3"}


@pytest_twisted.ensureDeferred
async def test_each_run_gets_its_own_result_whatever_is_killed() -> None:
    sources = {"return msg": int, "return [msg]": lambda number: [number]}
    sources["if (msg % 35 == 0) { for (;;); } return -msg"] = lambda number: -number
    async with a_pool(script_workers=2, script_timeout=0.05) as pool:
        waiting = [
            (wanted(number), run_(pool, source, number, tenant=(TENANT, OTHER)[number % 2]))
            for number in range(1, 200)
            for source, wanted in sources.items()
        ]
        assert pool.waiting > 100
        for _ in range(4):
            await until(lambda: not pool._workers or all(worker.ready for worker in pool._workers))
            for pid in pids_of(pool):
                os.kill(pid, signal.SIGKILL)
            await deferLater(reactor, 0.02)
        failed = 0
        for wanted, each in waiting:
            try:
                assert await each == wanted
            except ScriptFailed:
                failed += 1
        assert failed < 60
        assert pool.waiting == 0
