"""The process that scripts run in: one after the other, each where nothing of another is left.

It is started by `scripts.ScriptPool` and imports next to nothing, so that it starts fast and stays small. Requests come
in on standard input and answers go out on standard output, each as four bytes of length (big-endian), a line of JSON
and, behind it, text:

    in   ["prelude"]                            what TBEL scripts stand on, as JavaScript
         ["script", number, language, names]    the body of a function of these names, known by its number from now on
         ["forget", number]
         ["run", tenant, number, milliseconds]  the values of the arguments, as a JSON array -> an answer
         ["check", language, names]             the body of a function -> an answer
    out  ["ready", 0]                           once, at the start
         [word, microseconds]                   a Word and its text, in the order of the requests; processor time

It ends when its input does. It holds no secret and reaches nothing: no environment, no files, no network where the
system lets it have none, no rights to lose.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from rpcbroker.rules import tbel

NOBODY = 65534
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
NICENESS = 10
"""Calls of devices go before scripts; more would let scripts starve beside a busy broker."""

MAX_CONTEXTS = 100
"""Scripts of tenants that are ready to run; each takes about 180 kB."""
MAX_RUNS = 1000
"""In one context; what promises that are never kept leave in it goes with it."""
LONG = 0.005
"""Seconds of processor time after which a script may have left much garbage."""
ROOM = 128 << 20
"""Address space beyond that of the start and of one script: other contexts, and what is on its way."""

READY, OK, THREW, REFUSED, SLOW, MEMORY, UNUSABLE = "ready", "ok", "threw", "refused", "slow", "memory", "unusable"

# All JavaScript of ours is one line, and scripts begin in the second one: so errors tell which lines are theirs.


def _one_line(javascript: str) -> str:
    return " ".join(line for line in javascript.splitlines() if not line.lstrip().startswith("//"))


# What the script cannot reach: its way in and out. Returns null if something stays behind that cannot be taken away.
_ENCLOSE = _one_line("""
(function () {
    'use strict';
    const { parse, stringify } = JSON, { freeze, getPrototypeOf, isExtensible } = Object;
    const { ownKeys, apply, deleteProperty } = Reflect, world = globalThis, text = String;
    const told = function (error) {
        if (error === null || typeof error !== 'object') {
            return typeof error === 'symbol' ? 'a symbol' : text(error);
        }
        if (!(error instanceof Error)) {
            return stringify(error) || 'a ' + typeof error;
        }
        const at = /\\(<input>:([2-9]|\\d\\d+)\\)/.exec(text(error.stack));
        return text(error) + (at ? ' at line ' + (at[1] - 1) : '');
    };
    const safely = function (error) {
        try { return told(error); } catch (again) { return 'what cannot be told'; }
    };
    return function (script, limit) {
        freeze(script);
        freeze(script.prototype);
        const keys = ownKeys(world), proto = getPrototypeOf(world), there = Object.create(null);
        for (const key of keys) { there[key] = true; }
        const clean = function () {
            if (getPrototypeOf(world) !== proto || !isExtensible(world)) { return false; }
            const now = ownKeys(world);
            for (let i = 0; now.length !== keys.length && i < now.length; i++) {
                if (!(now[i] in there) && !deleteProperty(world, now[i])) { return false; }
            }
            return true;
        };
        const run = function (values) {
            let result, out;
            try { result = apply(script, undefined, parse(values)); } catch (error) {
                return error === null ? '0' : '!' + safely(error);
            }
            if (result instanceof Promise) { return '?a promise'; }
            try { out = stringify(result); } catch (error) {
                return error === null ? '0' : '?' + safely(error);
            }
            if (out === undefined) { return '?' + typeof result; }
            return out.length > limit ? '>' : '=' + out;
        };
        return function (values) {
            const out = run(values);
            return (clean() ? ' ' : '~') + out;
        };
    };
})()
""")

# Nothing that all scripts of a context could share can be changed; what a script adds to the global object goes again.
_FREEZE = _one_line("""
(function () {
    'use strict';
    const { freeze, getPrototypeOf, defineProperty } = Object, { ownKeys, getOwnPropertyDescriptor } = Reflect;
    const isThing = (value) => value !== null && (typeof value === 'object' || typeof value === 'function');
    const seen = new Set([globalThis]), todo = [
        function* () {}, async function () {}, async function* () {}, [][Symbol.iterator](), ''[Symbol.iterator](),
        new Map()[Symbol.iterator](), new Set()[Symbol.iterator](), ''.matchAll(/a/g), globalThis,
    ].map(getPrototypeOf);
    for (const key of ownKeys(globalThis)) {
        const { value, enumerable, configurable } = getOwnPropertyDescriptor(globalThis, key);
        if (configurable) {
            defineProperty(globalThis, key, { value, enumerable, writable: false, configurable: false });
        }
        if (isThing(value)) { todo.push(value); }
    }
    while (todo.length) {
        const thing = todo.pop();
        if (seen.has(thing)) { continue; }
        seen.add(thing);
        freeze(thing);
        todo.push(...[getPrototypeOf(thing)].filter(isThing));
        for (const key of ownKeys(thing)) {
            const { value, get, set } = getOwnPropertyDescriptor(thing, key);
            todo.push(...[value, get, set].filter(isThing));
        }
    }
})()
""")


class Script:
    """One that is known: `javascript` is the expression of a function, or None if it was refused for `fault`."""

    __slots__ = ("alone", "fault", "fresh", "javascript", "tbel")

    def __init__(self, language: str, names: list[str], source: str) -> None:
        self.tbel = language == "TBEL"
        self.javascript: str | None = None
        self.fault = ""
        if "\0" in source:
            self.fault = "it has a zero byte"  # quickjs would read no further
            return
        try:
            body = tbel.to_javascript(source, names) if self.tbel else source
        except tbel.Unknown as error:
            self.fault = str(error)
            return
        function = f"({', '.join(names)}) {{\n{body}\n}}"
        self.javascript = f"(function {function})"
        self.alone = f"({{ script{function} }})"
        """What can be evaluated only if the body is one: it must not close the function and go on behind it."""
        self.fresh = not self.tbel and "prototype" in body
        """It may mean to extend what other scripts have, too, so it gets all anew, each time."""


class Context:
    """One script of one tenant, ready to run."""

    __slots__ = ("_context", "_run", "milliseconds", "runs")

    def __init__(self, quickjs: Any, script: Script, prelude: str, *, milliseconds: int, memory: int, output: int):
        """Raises quickjs.JSException."""
        self._context = context = quickjs.Context()
        context.set_memory_limit(memory)
        self._limit(milliseconds)
        enclose = context.eval(_ENCLOSE)
        if script.tbel:
            context.eval(prelude)
        if not script.fresh:
            context.eval(_FREEZE)
        self._run = enclose(context.eval(script.javascript), output)
        self.runs = 0

    def _limit(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds
        self._context.set_time_limit(milliseconds / 1000)

    def __call__(self, values: str, milliseconds: int) -> str:
        """Raises quickjs.JSException when the script was interrupted."""
        if milliseconds != self.milliseconds:
            self._limit(milliseconds)
        self.runs += 1
        begun = time.process_time()
        out: str = self._run(values)
        if time.process_time() - begun > LONG:
            self._context.gc()
        return out


class Worker:
    """All that the process knows. `memory` is bytes, `output` UTF-16 units."""

    def __init__(self, quickjs: Any, *, memory: int, output: int) -> None:
        self._quickjs = quickjs
        self._memory = memory
        self._output = output
        self._prelude = ""
        self._scripts: dict[int, Script] = {}
        self._contexts: OrderedDict[tuple[str, int], Context] = OrderedDict()

    def answer(self, request: list[Any], text: str) -> tuple[str, str] | None:
        """Word and text for one request; None if it wants none."""
        match request:
            case ["run", tenant, number, milliseconds]:
                return self._run(tenant, number, text, milliseconds)
            case ["check", language, names]:
                return self._check(Script(language, names, text))
            case ["script", number, language, names]:
                self._scripts[number] = Script(language, names, text)
            case ["forget", number]:
                del self._scripts[number]
            case ["prelude"]:
                self._prelude = _one_line(text)
        return None

    def _check(self, script: Script) -> tuple[str, str]:
        if script.javascript is None:
            return REFUSED, script.fault
        context = self._quickjs.Context()
        context.set_memory_limit(4 * self._memory)
        try:
            context.eval(script.alone)
            context.eval(script.javascript)
        except self._quickjs.JSException as error:
            return REFUSED, _told(str(error))
        return OK, "null"

    def _run(self, tenant: str, number: int, values: str, milliseconds: int) -> tuple[str, str]:
        script = self._scripts[number]
        if script.javascript is None:
            return THREW, script.fault
        key = (tenant, number)
        word, text = self._try(key, script, values, milliseconds)
        if word == MEMORY:
            # Others' garbage, or its own of before, may have taken the room: that must not be its fault.
            self._contexts.clear()
            word, text = self._try(key, script, values, milliseconds)
        return word, text

    def _try(self, key: tuple[str, int], script: Script, values: str, milliseconds: int) -> tuple[str, str]:
        try:
            context = self._contexts.pop(key, None) or Context(
                self._quickjs,
                script,
                self._prelude,
                milliseconds=milliseconds,
                memory=self._memory,
                output=self._output,
            )
            out = context(values, milliseconds)
        except (self._quickjs.JSException, MemoryError) as error:
            return _word(str(error) or "out of memory")
        word, text = _outcome(out[1:], script)
        if word != MEMORY and out[0] == " " and not script.fresh and context.runs < MAX_RUNS:
            self._contexts[key] = context
            if len(self._contexts) > MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        return word, text


def _outcome(out: str, script: Script) -> tuple[str, str]:
    kind, text = out[0], out[1:]
    if kind == "=":
        return OK, text
    if kind == ">":
        return THREW, "what the script returned is too large"
    if kind == "?":
        return THREW, f"what the script returned is not JSON: {text[:1000]}"
    if kind == "0":
        # quickjs throws null where there is no memory left for an error.
        if script.javascript is not None and "throw" not in script.javascript:
            return MEMORY, ""
        return THREW, "null (so does a script that takes too much memory)"
    if text.startswith("InternalError: out of memory"):
        return MEMORY, ""
    return THREW, text[:1000].replace("'$", "'")


def _word(error: str) -> tuple[str, str]:
    """Of what no script can catch, or of its compilation."""
    if "InternalError: interrupted" in error:
        return SLOW, ""
    if "out of memory" in error or error.startswith("null"):
        return MEMORY, ""
    return THREW, _told(error)


def _told(error: str) -> str:
    """The first line of an error of quickjs, and where it was."""
    message, _, place = error.partition("\n")
    line = place.partition("<input>:")[2].partition("\n")[0].rstrip(")")
    return f"{message[:1000]} at line {int(line) - 1}" if line.isdigit() else message[:1000]


def confine(memory: int) -> None:
    """Give up all that scripts need not have; what the system does not take stays, and quickjs stands before it."""
    libc = ctypes.CDLL(None)
    os.chdir("/")
    if os.geteuid() == 0:
        libc.unshare(CLONE_NEWNET)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    else:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with suppress(PermissionError):  # as a filter of system calls has it, such as that of a systemd unit
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the broker ends its workers itself
    with open("/proc/self/statm", "rb") as file:
        here = int(file.read().split()[0]) * resource.getpagesize()
    for limit, most in (
        (resource.RLIMIT_AS, here + memory + ROOM),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(limit, (most, most))


def _write(word: str, microseconds: int, text: str) -> None:
    body = f'["{word}",{microseconds}]\n{text}'.encode("utf-8", "replace")
    rest = memoryview(len(body).to_bytes(4, "big") + body)
    while rest:
        rest = rest[os.write(1, rest) :]


def _serve(worker: Worker) -> None:
    buffer = bytearray()
    while data := os.read(0, 1 << 16):
        buffer += data
        while len(buffer) >= 4 and len(buffer) >= 4 + (size := int.from_bytes(buffer[:4], "big")):
            line, _, text = bytes(buffer[4 : 4 + size]).partition(b"\n")
            del buffer[: 4 + size]
            begun = time.process_time()
            answer = worker.answer(json.loads(line), text.decode())
            if answer is not None:
                _write(answer[0], int((time.process_time() - begun) * 1e6), answer[1])


def main(memory: int, output: int) -> None:
    """Serve. `memory` is what a script may take, in bytes, `output` what it may return, in characters."""
    try:
        import _quickjs
    except ImportError as error:
        _write(UNUSABLE, 0, f"quickjs cannot be imported: {error}")
        sys.exit(1)
    confine(memory)
    _write(READY, 0, "")
    _serve(Worker(_quickjs, memory=memory, output=output))
