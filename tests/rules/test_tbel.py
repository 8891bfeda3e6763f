"""TBEL: what becomes of it in JavaScript, what its functions give, and what is refused."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.rules.tbel import Unknown, to_javascript
from rpcbroker.rules.tbel_names import CLASSES, FUNCTIONS, METHODS, STATICS

NAMES = ("msg", "metadata", "msgType")
PRELUDE = files("rpcbroker.rules").joinpath("tbel.js").read_text()
MESSAGE = {"temperature": 20, "hex": "0x1F", "list": [3, 1, 2], "deep": {"a": {"b": 1}}, "none": None}


def value_of(source: str) -> Any:
    """What the script gives back for a message."""
    import quickjs

    context = quickjs.Context()
    context.eval(PRELUDE)
    run = context.eval(f"(function ({', '.join(NAMES)}) {{\n{to_javascript(source, NAMES)}\n}})")
    context.set("message", json.dumps([MESSAGE, {"deviceName": "Boiler"}, "POST_TELEMETRY_REQUEST"]))
    context.set("run", run)
    made = context.eval("JSON.stringify(run(...JSON.parse(message)))")
    return None if made is None else json.loads(made)


@pytest.mark.parametrize(
    ("tbel", "javascript"),
    [
        ("return msg.temperature > 20;", "return msg.temperature > 20;"),
        ("msg.temperature > 20", "return msg.temperature > 20"),
        ("var a = 1; a + 1;", "var a = 1; return a + 1;"),
        ("def a = 1L; return a;", "var a = 1; return a;"),
        ("a = 0xFFL; return a;", "var a; a = 0xFF; return a;"),
        ("return 1.5f + 2D + 3d + 4F + 08;", "return 1.5 + 2 + 3 + 4 + 8;"),
        ("foreach (x : msg.list) { f = x; }", "var f; for (var x of $.each( msg.list)) { f = x; }"),
        ("for (int x : msg.list) { }", "for ( var x of $.each( msg.list)) { }"),
        ("foreach (x:msg) { }", "for (var x of $.each(msg)) { }"),
        ("for (int i = 0; i < 3; i++) { }", "for (var i = 0; i < 3; i++) { }"),
        ("String s = 'x'; return s.size();", "var s = 'x'; return s.$size();"),
        ("return msg.?a.b.?c[0];", "return msg?.a?.b?.c?.[0];"),
        ("return msg.?get('a').b;", "return msg?.$get('a')?.b;"),
        ("return ['a': 1, 'b': [1, 2]];", "return ({'a': 1, 'b': [1, 2]});"),
        ("return [msg.x ? 1 : 2];", None),
        ("return [:];", "return ({});"),
        ('return {a: msg.a, "b": [c: 1]};', 'return {a: msg.a, "b": ({c: 1})};'),
        ("return new java.util.HashMap();", "return  $.HashMap();"),
        ("return java.lang.Math.max(1, 2);", "return $.Math.max(1, 2);"),
        ("return Math.PI;", "return $.Math.PI;"),
        ("return new byte[4];", "return  $.array(4);"),
        ("def f(int a, b) { return a + b; } f(1, 2)", "function f( a, b) { return a + b; } return f(1, 2)"),
        ("return msg.a and !msg.b or msg.c == nil;", "return msg.a && !msg.b || msg.c == null;"),
        ("return isdef(foo);", 'return (typeof foo !== "undefined");'),
        ("if (msg.a) { return 1; } else if (msg.b) { return 2; }\n3", None),
        ("if (msg.a) { return 1; } else { return 2; }", "if (msg.a) { return 1; } else { return 2; }"),
        ("if (msg.a) return 1; else return 2;", "if (msg.a) return 1; else return 2;"),
        ("return 1; // said `so`\n/* and\nso */", "return 1;  \n\n"),
        ("var class = 1; return class;", "var class$ = 1; return class$;"),
        ("def eval(of) { return of / 2; } eval(4)", "function eval$(of$) { return of$ / 2; } return eval$(4)"),
        ("try { } catch (eval) { } return eval('1');", "try { } catch (eval$) { } return eval$('1');"),
        ("foreach ($ : msg) { }", "for (var $$ of $.each( msg)) { }"),
        ("return msg['a'] == msg.list[0];", "return msg['a'] == msg.list[0];"),
        ("if (msg.a) (msg.b).size();", "if (msg.a) (msg.b).$size();"),
        ("", ""),
    ],
)
def test_what_differs_is_written_anew_and_the_rest_stays(tbel: str, javascript: str | None) -> None:
    made = to_javascript(tbel, NAMES)
    if javascript is None:
        javascript = tbel.replace("\n3", "\nreturn 3")
    assert made == javascript
    assert made.count("\n") == tbel.count("\n"), "each word stays in its line"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("msg.temperature = (msg.temperature * 9 / 5) + 32; return msg.temperature;", 68),
        ("var m = ['a': 1]; m.put('b', 2L); m.c = 3; m['d'] = 4; return m;", {"a": 1, "b": 2, "c": 3, "d": 4}),
        ("var sum = 0; foreach (x : msg.list) { sum += x; } sum", 6),
        ("var all = []; foreach (e : msg.deep.entrySet()) { all.add(e.getKey()); all.add(e.value); } all", ["a", {"b": 1}]),
        ("var all = []; foreach (v : msg.deep) { all.add(v); } all", [{"b": 1}]),
        ("var s = ''; foreach (c : 'abc') { s = c + s; } s", "cba"),
        ("return msg.?none.deeper.still == null;", True),
        ("return msg.deep.?a.b;", 1),
        ("'123' == 123", True),
        ("def twice(x) { return x * 2; } return twice(twice(3));", 12),
        ("return msg.list.size() + msg.list.length;", 6),
        ("var l = new ArrayList(); l.add(1); l.add(0, 2); l.remove(1); return l;", [2]),
        ("msg.list.sort(); return msg.list;", [1, 2, 3]),
        ("msg.list.sort(false); return msg.list;", [3, 2, 1]),
        ("return [msg.list.contains(3), msg.list.indexOf(2), msg.list.get(1), msg.list.subList(1, 3)];", [True, 2, 1, [1, 2]]),
        ("return msg.list.isEmpty() || msg.isEmpty() || ''.isEmpty() && !'x'.isEmpty();", True),
        ("return [msg.containsKey('none'), msg.containsKey('no'), msg.get('no'), msg.getOrDefault('no', 7)];", [True, False, None, 7]),
        ("msg.remove('list'); msg.remove('hex'); return msg.keySet();", ["temperature", "deep", "none"]),
        ("var m = ['b': 1, 'a': 2]; m.sortByKey(); return m.keys() + '|' + m.values().join('-');", "a,b|2-1"),
        ("var m = ['b': 1, 'a': 2]; m.sortByValue(false); return m.keys();", ["a", "b"]),
        ("var m = [:]; m.putAll(msg.deep); m.putIfAbsent('a', 1); m.putIfAbsent('z', 1); return m;", {"a": {"b": 1}, "z": 1}),
        ("return 'a'.equals('a') && 'A'.equalsIgnoreCase('a') && !'a'.equals('b') && [1].equals([1]);", True),
        ("return 'Hello'.length() + 'Hello'.substring(1, 3) + 'Hello'.charAt(0) + 'x'.compareTo('y');", "5elH-1"),
        ("return 'a.b.c'.replace('.', '-') + 'aab'.replaceAll('a+', 'x') + 'aab'.replaceFirst('a', '');", "a-b-cxbab"),
        ("return 'a,b,,'.split(',');", ["a", "b"]),
        ("return 'a1b2c'.split('[0-9]', 2);", ["a", "b2c"]),
        ("return 'ab12'.matches('[a-z]+[0-9]+') && !'ab'.matches('a');", True),
        ("return 'ab'.toUpperCase() + ' x '.trim() + 'ab'.contains('b') + 'ab'.startsWith('a') + 'ab'.repeat(2);", "ABxtruetrueabab"),
        ("var s = new HashSet(); s.add(1); s.add(1); s.add('1'); return s.size();", 2),
        ("var b = new StringBuilder(); b.append('a').append(1); return b.toString();", "a1"),
        ("return [Integer.parseInt('12'), Long.parseLong('-5'), Double.parseDouble('1.5'), Integer.toHexString(255)];", [12, -5, 1.5, "ff"]),
        ("return [String.valueOf(1), String.format('%05.1f %s %03d%%', 2.25, 'x', 7), String.join('-', ['a', 'b'])];", ["1", "002.3 x 007%", "a-b"]),
        ("return [Math.round(2.5), Math.floor(-1.5), Math.max(1, 2), Math.pow(2, 10), Math.floorMod(-1, 3)];", [3, -2, 2, 1024, 2]),
        ("return JSON.parse(JSON.stringify(msg.deep));", {"a": {"b": 1}}),
        ("return [1.7.intValue(), 300.byteValue(), 5.toString()];", None),
        ("var d = new Date(0); return d.toISOString() + d.getTime() + d.getFullYear();", "1970-01-01T00:00:00.000Z01970"),
        ("return new Date(2024, 0, 15, 10).toISOString();", "2024-01-15T10:00:00.000Z"),
        ("return Date.now() > 1700000000000 && System.currentTimeMillis() > 1700000000000;", True),
        ("return [Arrays.asList(1, 2), Collections.max([1, 3, 2]), Objects.isNull(null), Byte.toUnsignedInt(-1)];", [[1, 2], 3, True, 255]),
        ("switch (msg.temperature) { case 20: return 'twenty'; default: return 'other'; }", "twenty"),
        ("var i = 0; while (i < 5) { i++; if (i == 3) { break; } } return i;", 3),
        ("try { raiseError('no'); } catch (e) { return 'caught'; }", "caught"),
        ("msg.size = 1; msg.get = 2; return [msg.size, msg.size(), msg.get, msg.get('get')];", [1, 7, 2, 2]),
        ("return {msg: msg.deep, metadata: metadata, msgType: msgType};", {"msg": {"a": {"b": 1}}, "metadata": {"deviceName": "Boiler"}, "msgType": "POST_TELEMETRY_REQUEST"}),
    ],
)  # fmt: skip
def test_scripts_give_what_they_give_in_java(source: str, value: Any) -> None:
    if value is None:  # numbers have methods through variables only
        source, value = "var a = 1.7; var b = 300; return [a.intValue(), b.byteValue(), b.toString()];", [1, 44, "300"]
    assert value_of(source) == value


VALUES = [
    ("atob('SGVsbG8=')", "Hello"),
    ("btoa('Hellö')", "SGVsbMO2"),
    ("base64ToBytes('/wA=')", [-1, 0]),
    ("base64ToHex('/wA=')", "FF00"),
    ("bytesToBase64([-1, 0])", "/wA="),
    ("bytesToExecutionArrayList([1, 2])", [1, 2]),
    ("byteArrayToExecutionArrayList([1, 2])", [1, 2]),
    ("bytesToHex([-1, 10])", "FF0A"),
    ("bytesToString([72, -61, -68])", "Hü"),
    ("bytesToString([72, -4], 'ISO-8859-1')", "Hü"),
    ("decodeToJson('{\"a\": 1}')", {"a": 1}),
    ("decodeToJson([91, 49, 93])", [1]),
    ("decodeToString([72, 105])", "Hi"),
    ("decodeURI('a%20b')", "a b"),
    ("encodeURI('a b/ü')", "a%20b/%C3%BC"),
    ("doubleToHex(1.5)", "0x3FF8000000000000"),
    ("doubleToHex(1.5, false)", "0x000000000000F83F"),
    ("floatToHex(123456.0)", "0x47F12000"),
    ("floatToHex(123456.0, false)", "0x0020F147"),
    ("hexToBytes('0xFF01')", [-1, 1]),
    ("intLongToRadixString(5, 2)", "00000101"),
    ("intLongToString(255)", "255"),
    ("intLongToString(255, 16, true, true)", "0xFF"),
    ("intLongToString(35, 36)", "z"),
    ("intToHex(171)", "AB"),
    ("intToHex(0xABCD, false, true)", "0xCDAB"),
    ("intToHex(-2555994)", "FFD8FFA6"),
    ("longToHex(-200)", "FF38"),
    ("isBinary('0110')", 2),
    ("isBinary('12')", -1),
    ("isDecimal('-1.5')", 10),
    ("isDecimal('a')", -1),
    ("isHexadecimal('0xAF')", 16),
    ("isOctal('78')", -1),
    ("isList([1])", True),
    ("isMap([1])", False),
    ("isMap(msg)", True),
    ("isSet(newSet())", True),
    ("isNaN(msg.x)", True),
    ("newSet()", []),
    ("padEnd('1', 3, '0')", "100"),
    ("padStart('1', 3, '0')", "001"),
    ("parseBigEndianHexToDouble('3FF8000000000000')", 1.5),
    ("parseBigEndianHexToFloat('41EA62CC')", 29.29824),
    ("parseBigEndianHexToInt('0102')", 258),
    ("parseBigEndianHexToLong('00000000000000FF')", 255),
    ("parseBytesIntToFloat([0, 10], 0, 2)", 10),
    ("parseBytesLongToDouble([1, 0], 0, 2, false)", 1),
    ("parseBytesToDouble(hexToBytes('3FF8000000000000'))", 1.5),
    ("parseBytesToFloat(hexToBytes('C3F54840'), 0, 4, false)", 3.14),
    ("parseBytesToInt([1, 2])", 258),
    ("parseBytesToInt([0, 1, 2], 1, 2, false)", 513),
    ("parseBytesToInt([-1], 0, 1)", 255),
    ("parseBytesToInt([-1, -1, -1, -1])", -1),
    ("parseBytesToLong([0, 0, 0, 0, 0, 0, 1, 0])", 256),
    ("parseDouble('1.5')", 1.5),
    ("parseFloat('12,5')", 12.5),
    ("parseFloat('')", None),
    ("parseHexIntLongToFloat('0x0A', true)", 10),
    ("parseHexToDouble('000000000000F83F', false)", 1.5),
    ("parseHexToFloat('0x41EA62CC')", 29.29824),
    ("parseHexToInt(msg.hex)", 31),
    ("parseHexToInt('0100', false)", 1),
    ("parseHexToLong('7FFFFFFF')", 2147483647),
    ("parseInt('-12')", -12),
    ("parseInt('0x1F')", 31),
    ("parseInt('1010', 2)", 10),
    ("parseInt(' ')", None),
    ("parseLittleEndianHexToDouble('000000000000F83F')", 1.5),
    ("parseLittleEndianHexToFloat('CC62EA41')", 29.29824),
    ("parseLittleEndianHexToInt('0100')", 1),
    ("parseLittleEndianHexToLong('0100000000000000')", 1),
    ("parseLong('4294967296')", 4294967296),
    ("parseBinaryArray([1, 0, 1])", 5),
    ("parseBinaryArrayToInt([0, 1, 1], 1, 2)", 3),
    ("parseByteToBinaryArray(5)", [0, 0, 0, 0, 0, 1, 0, 1]),
    ("parseByteToBinaryArray(5, 3, false)", [1, 0, 1]),
    ("parseBytesToBinaryArray([1], 4)", [0, 0, 0, 1]),
    ("parseLongToBinaryArray(2, 3)", [0, 1, 0]),
    ("printUnsignedBytes([-1, 1])", [255, 1]),
    ("stringToBytes('ü')", [-61, -68]),
    ("toFixed(1.005, 2)", 1.01),
    ("toFixed(-0.345, 1)", -0.3),
    ("toFixed(1e21, 2)", 1e21),
    ("toFlatMap(msg.deep)", {"a.b": 1}),
    ("toFlatMap({'x': [1, {'y': 2}], 'z': 3}, ['z'])", {"x.0": 1, "x.1.y": 2}),
    ("toFlatMap({'x': {'y': [1]}}, false)", {"y.0": 1}),
    ("toInt(2.5)", 3),
    ("toList(toSet([1, 1, 2]))", [1, 2]),
    ("toSet([1, 1])", [1]),
    ("raiseError('x')", "raises x"),
]


@pytest.mark.parametrize(("source", "value"), VALUES)
def test_functions_give_what_they_are_for(source: str, value: Any) -> None:
    if str(value).startswith("raises"):
        with pytest.raises(Exception, match="Error: x"):
            value_of(source)
    else:
        assert value_of(source) == value


def test_every_function_is_tried_here() -> None:
    assert not FUNCTIONS.keys() - {name for source, _ in VALUES for name in re.findall(r"\w+", source)}


def test_every_name_of_the_tables_is_there_and_nothing_else() -> None:
    import quickjs

    context = quickjs.Context()
    context.eval(PRELUDE)
    names = json.loads(context.eval("JSON.stringify(Object.keys($))"))
    assert set(names) == {*FUNCTIONS, *CLASSES, *STATICS, "each", "array"}
    for name, members in STATICS.items():
        assert not [each for each in members if context.eval(f"typeof $.{name}.{each}") == "undefined"]
    prototypes = json.loads(
        context.eval(
            "JSON.stringify([Object, Array, String, Number, Date].flatMap(each => Object.getOwnPropertyNames("
            "each.prototype)).filter(name => name[0] === '$'))"
        )
    )
    assert {name[1:] for name in prototypes} == METHODS


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("\nlaunch(1)", "the function 'launch' is not known here, at line 2"),
        ("return msg\n.explode();", "the method 'explode' is not known here, at line 2"),
        ("return value + 1;", "the word 'value' is not known here, at line 1"),
        ("eval('1')", "the function 'eval' is not known here, at line 1"),
        ("globalThis.x", "the word 'globalThis' is not known here, at line 1"),
        ("return this.x;", "the word 'this' is not known here, at line 1"),
        ("new java.io.File('x')", "the class 'File' is not known here, at line 1"),
        ("java.lang.Runtime.getRuntime()", "'Runtime' is not known here, at line 1"),
        ("System.exit(1)", "System.exit is not known here, at line 1"),
        ("Math.fry(1)", "Math.fry is not known here, at line 1"),
        ("msg.getClass()", "the method 'getClass' is not known here, at line 1"),
        ("msg.constructor.constructor('x')", "the method 'constructor' is not known here, at line 1"),
        ("`x`", "'`' is not understood, at line 1"),
        ("'open", '"\'" is not understood, at line 1'),
        ("return (1;", "'(' is never closed, at line 1"),
        ("return 1)", "')' closes nothing, at line 1"),
        ("(]", "']' closes nothing, at line 1"),
        ("1 /* open", "'/*' is never closed, at line 1"),
        ("new", "the class '' is not known here, at line 1"),
        ("msg['constructor']['constructor']('1')()", "a function without a name is not known here, at line 1"),
        ("'abc'['replace']('a', 'b')", "a function without a name is not known here, at line 1"),
        ("(msg.list['map'])(1)", "a function without a name is not known here, at line 1"),
        ("var a = /'/; eval('1'); /'/", "a regular expression is not known here, at line 1"),
        ("if (true) /'/; eval('1'); /'/", "a regular expression is not known here, at line 1"),
        ("while (1) { break\n/'/; eval('1'); /'/; }", "a regular expression is not known here, at line 2"),
        ("1 <!-- /*\n; eval('1')\n*/ 2 / .length", "'<!--' is not understood, at line 1"),
        ("1\n--> '\n'", "'-->' is not understood, at line 2"),
        ("msg.list.sort(msg => metadata)", "'=>' is not understood, at line 1"),
        ("msg.list == [1]", "a comparison with the members of a list is not known here, at line 1"),
        ("return [:] != msg;", "a comparison with the members of a list is not known here, at line 1"),
        ("return {...eval};", "'..' is not understood, at line 1"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(source: str, text: str) -> None:
    with pytest.raises(Unknown) as refused:
        to_javascript(source, NAMES)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    "source",
    [
        "var f = msg.list['map']['constructor']; return f == null;",
        "return msg.constructor == null && msg['__proto__'] == null && msg.hasOwnProperty == null;",
        "def f() { return 1; } var g = f['constructor']; return g == null;",
    ],
)
def test_no_alias_leads_to_what_makes_functions(source: str) -> None:
    assert value_of(source) is True


_WORDS = st.sampled_from(
    re.findall(
        r"\S+|\n",
        "msg metadata x ( ) [ ] { } ; : , . .? = == + foreach for if else def var return new java . util HashMap size "
        "( ) 's' 1 2L 0xF ? function parseInt isdef \n Math PI int String / /= eval catch class $ <!-- -->",
    )
)


@given(st.lists(_WORDS, max_size=30).map(" ".join))
def test_whatever_comes_is_translated_or_refused(source: str) -> None:
    try:
        made = to_javascript(source, NAMES)
    except Unknown:
        return
    assert made.count("\n") == source.count("\n")


@pytest.mark.parametrize(
    "part", ["[", "(", "a = ", "x.?", "if (1) {} else ", "/* ", "msg.list.", "[1: ", "'a", "1 ", "\n"]
)
def test_time_is_linear_in_the_source(part: str) -> None:
    source = part * (300_000 // len(part))
    begun = time.process_time()
    with suppress(Unknown):
        to_javascript(source, NAMES)
    assert time.process_time() - begun < 5.0
