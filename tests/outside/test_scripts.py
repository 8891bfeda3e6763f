"""Scripts in real processes: what they return, how they fail, what they leave behind."""

from __future__ import annotations

import pytest
import pytest_twisted
from script_pools import MESSAGE, OTHER, TENANT, a_pool, failing, failure, js, run, tbel

from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.outside.scripts import ScriptPool, size
from rpcbroker.rules.ports import Script, ScriptRefused


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("return msg.temperature > 10;", True),
        (
            "return {msg: msg, metadata: metadata, msgType: msgType};",
            dict(zip(("msg", "metadata", "msgType"), MESSAGE, strict=True)),
        ),
        ("return ['High', msgType];", ["High", "POST_TELEMETRY_REQUEST"]),
        ("msg.x = undefined; msg.f = () => 1; msg.n = NaN; return msg", {**MESSAGE[0], "n": None}),
        ("return null", None),
        ("return NaN", None),
        ("return 'ä \\u2028 \\0 \\ud83d\\ude00'", "ä \u2028 \0 😀"),
        ("total = 0; for (i = 0; i < 3; i++) total += msg.list[i]; return total", 6),
        ("const {temperature, ...rest} = msg; return `${temperature ?? 0} ${rest.no?.way}`", "20 undefined"),
        ("return Object.keys(msg).map(k => k.toUpperCase()).join()", "TEMPERATURE,LIST"),
        ("return new Date(0).toISOString()", "1970-01-01T00:00:00.000Z"),
        ("// only a comment at the end\nreturn 1 // here", 1),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_script_gives_back_what_json_can_have(source: str, result: object) -> None:
    async with a_pool() as pool:
        assert await run(pool, source) == result


@pytest_twisted.ensureDeferred
async def test_values_come_as_they_were_given() -> None:
    values = [{"a": [1, 2.5, None, True, "ü\u2028\x00"], "__proto__": 1}, "s", None]
    async with a_pool() as pool:
        assert await run(pool, "return [msg, metadata, msgType]", *values) == values
        one = Script(js("").language, "return prev + 1", ("prev",))
        assert await pool.run(TENANT, one, [41]) == 42


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("while (true);", "the script took longer than 50 ms"),
        ("for (;;) { try { for (;;); } catch (e) {} finally { continue; } }", "the script took longer than 50 ms"),
        ("return {toJSON() { for (;;); }}", "the script took longer than 50 ms"),
        ("throw {toString() { for (;;); }}", "{}"),
        ("return /(a+)+$/.test('a'.repeat(40) + 'b')", "the script took longer than 50 ms"),
        ("let all = []; for (;;) all.push(new Array(1000))", "the script took more than 64 MiB"),
        ("let all = 'x'; for (;;) all += all", "the script took more than 64 MiB"),
        ("return new ArrayBuffer(1e9)", "the script took more than 64 MiB"),
        ("function f() { return f() + 1 }\nreturn f()", "InternalError: stack overflow at line 2"),
        ("\nreturn JSON.parse('['.repeat(1e5))", "SyntaxError: stack overflow at line 2"),
        ("throw new TypeError('bad')", "TypeError: bad at line 1"),
        ("\n\nfunction f() {\n  return x }\nreturn f()", "ReferenceError: 'x' is not defined at line 4"),
        ("throw 'just text'", "just text"),
        ("throw 42", "42"),
        ("throw {code: 7}", '{"code":7}'),
        ("throw undefined", "undefined"),
        ("throw null", "null (so does a script that takes too much memory)"),
        ("throw Symbol('s')", "a symbol"),
        ("let e = new Error('x'); e.stack = {toString() { throw e }}; throw e", "what cannot be told"),
        ("msg.temperature = 1", "what the script returned is not JSON: undefined"),
        ("return () => 1", "what the script returned is not JSON: function"),
        ("return Symbol()", "what the script returned is not JSON: symbol"),
        ("async function f() {}; return f()", "what the script returned is not JSON: a promise"),
        ("let a = {}; a.a = a; return a", "what the script returned is not JSON: TypeError: circular reference"),
        ("return 'x'.repeat(2e6)", "what the script returned is too large"),
        ("return '\\ud800'", "what the script returned is not JSON: "),
        (
            "let a = []; for (let i = 0; i < 100; i++) a = [a]; return a",
            "what the script returned is nested deeper than 64",
        ),
        ("return 1 +;", "SyntaxError: unexpected token in expression: ';' at line 1"),
        ("return console.log(1)", "ReferenceError: 'console' is not defined at line 1"),
        ("return require('os')", "ReferenceError: 'require' is not defined at line 1"),
        ("import('os'); return std", "ReferenceError: 'std' is not defined at line 1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_script_that_goes_wrong_says_how_and_the_next_one_runs(source: str, text: str) -> None:
    async with a_pool(script_timeout=0.05 if "50 ms" in text else 1.0) as pool:
        assert (await failure(pool, source)).startswith(text)
        assert await run(pool, "return 1") == 1
        assert (pool.counts.runs, pool.counts.failures) == (2, 1)


@pytest.mark.parametrize(
    "dirt",
    [
        "Array.prototype.push = null",
        "Object.prototype.spot = 1",
        "[].__proto__.spot = 1",
        "''.constructor.fromCharCode = null",
        "Object.setPrototypeOf(Array['proto' + 'type'], null)",
        "(function* () {})().__proto__.__proto__.spot = 1",
        "JSON.parse = JSON.stringify = null",
        "Reflect.ownKeys = Object.freeze = null",
        "Math.spot = Date.now.spot = 1",
        "spot = 1",
        "this.spot = 1",
        "globalThis.__proto__ = {spot: 1}",
        "Object.defineProperty(globalThis, 'spot', {value: 1})",
        "Object.preventExtensions(globalThis)",
        "arguments.callee.spot = 1",
        "delete globalThis.Math; Math = undefined",
        "new Function('spot = 1')(); (0, eval)('var spot = 1')",
        "Promise.resolve().then(() => { spot = 1 })",
        "spot = 1; throw 1",
        "spot = 1; for (;;);",
    ],
)
@pytest_twisted.ensureDeferred
async def test_nothing_that_a_script_does_reaches_its_next_run(dirt: str) -> None:
    look = (
        "let clean = typeof spot === 'undefined' && !({}).spot && ![].spot && !Math.spot && !Date.now.spot"
        " && !arguments.callee.spot && !(function* () {})().spot && typeof [].push === 'function'"
        " && typeof ''.constructor.fromCharCode === 'function' && [1, 2].map(x => x + 1).length === 2"
        " && JSON.stringify([1]) === '[1]' && Reflect.ownKeys({a: 1}).length === 1;"
        " made = 1; delete globalThis.made;"
        " if (msg) { %s; } return clean"
    )
    async with a_pool(script_workers=1, script_timeout=0.05) as pool:
        script = js(look % dirt)
        assert await pool.run(TENANT, script, [False, {}, ""]) is True
        for _ in range(2):
            await pool.run(TENANT, script, [True, {}, ""]).addErrback(lambda failure: None)
            assert await pool.run(TENANT, script, [False, {}, ""]) is True
            assert await pool.run(OTHER, script, [False, {}, ""]) is True


@pytest_twisted.ensureDeferred
async def test_a_script_may_extend_prototypes_for_itself() -> None:
    source = "let there = 'twice' in ''.constructor.prototype; String.prototype.twice = function () { return this + this }; return [there, 'a'.twice()]"
    async with a_pool() as pool:
        for _ in range(3):
            assert await run(pool, source) == [False, "aa"]


@pytest_twisted.ensureDeferred
async def test_memory_that_others_left_behind_is_not_held_against_a_script() -> None:
    """Cycles are not freed at once, and a context keeps what promises hold that are never kept."""
    hoard = "let a = []; for (let i = 0; i < 2e5; i++) a.push({i}); Promise.resolve(a).then(x => a); return a.length"
    async with a_pool(script_workers=1, script_timeout=2.0) as pool:
        for _ in range(12):
            assert await run(pool, hoard) == 200000


@pytest_twisted.ensureDeferred
async def test_a_script_that_is_not_well_formed_is_refused_with_its_line() -> None:
    async with a_pool() as pool:
        assert await pool.check(js("return msg.a > 1;")) is None
        assert await pool.check(js("for (;;);")) is None, "it is not run"
        with pytest.raises(ScriptRefused, match=r"SyntaxError: .* at line 3"):
            await pool.check(js("var a = 1;\n\nreturn a +;"))
        with pytest.raises(ScriptRefused, match="zero byte"):
            await pool.check(js("return 1;\0}"))


@pytest.mark.parametrize(
    "source",
    [
        "return 1; }); globalThis.kept = 0; (function () { return ++kept;",
        "}, globalThis.kept = 0, function () { return ++kept;",
        "}); for (;;); (function () {",
        "return 1; }}); globalThis.kept = 0; ({ f() {{",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_script_that_ends_before_its_end_is_refused_and_nothing_behind_is_run(source: str) -> None:
    async with a_pool() as pool:
        with pytest.raises(ScriptRefused, match="SyntaxError"):
            await pool.check(js(source))


@pytest_twisted.ensureDeferred
async def test_a_tbel_script_is_refused_for_what_is_not_known_by_name_and_line() -> None:
    async with a_pool() as pool:
        assert (
            await pool.check(tbel("foreach (e : msg.entrySet()) { metadata.put(e.key, e.value.toString()); }")) is None
        )
        with pytest.raises(ScriptRefused, match="the function 'launch' is not known here, at line 2"):
            await pool.check(tbel("var a = 1;\nlaunch(a);"))
        with pytest.raises(ScriptRefused, match=r"SyntaxError: .* at line 2"):
            await pool.check(tbel("var a = 1;\nvar b = a +;"))
        assert await pool.run(TENANT, tbel("msg.temperature > 10"), MESSAGE) is True
        assert await failing(pool.run(TENANT, tbel("\nmsg.none.value"), MESSAGE)) == (
            "TypeError: cannot read property 'value' of undefined at line 2"
        )
        assert await failing(pool.run(TENANT, tbel("\nmsg.none.size()"), MESSAGE)) == (
            "TypeError: cannot read property 'size' of undefined at line 2"
        )


@pytest_twisted.ensureDeferred
async def test_a_script_of_a_mebibyte_is_checked_and_run() -> None:
    line = "total = total + msg.temperature;\n"
    for script in (js, tbel):
        large = script("var total = 0;\n" + line * ((1 << 20) // len(line) - 2) + "return total;")
        async with a_pool() as pool:
            assert await pool.check(large) is None
            assert await pool.run(TENANT, large, MESSAGE) > 600_000
            with pytest.raises(ScriptRefused, match="it is larger than 1 MiB"):
                await pool.check(js("return 1;" + " " * (1 << 20)))


@pytest_twisted.ensureDeferred
async def test_a_limit_that_changes_holds_from_the_next_run_on() -> None:
    from twisted.internet import reactor

    from rpcbroker.core.deadlines import Deadlines

    settings = RulesSettings(script_timeout=2.0)
    deadlines = Deadlines(reactor)
    pool = ScriptPool(reactor, reactor, deadlines, lambda: settings)
    script = js("for (let begun = Date.now(); Date.now() - begun < msg;); return msg")
    assert await pool.run(TENANT, script, [100, {}, ""]) == 100
    settings = RulesSettings(script_timeout=0.05)
    assert await failing(pool.run(TENANT, script, [5000, {}, ""])) == "the script took longer than 50 ms"
    await pool.stop()
    deadlines.stop()


def test_sizes_are_told_in_the_largest_unit_that_fits() -> None:
    assert [size(n) for n in (100, 1 << 10, 3 << 19, 64 << 20)] == ["100 B", "1 KiB", "1.5 MiB", "64 MiB"]
