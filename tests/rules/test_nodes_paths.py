"""JSON path, and the split of arrays."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from node_bench import passed, refusal

from rpcbroker.rules.nodes.paths import Path, PathFailed

PATH, SPLIT = "transform.TbJsonPathNode", "transform.TbSplitArrayMsgNode"
DATA = {
    "t": 21.5,
    "no": None,
    "list": [{"n": 1, "on": True}, {"n": 2}, {"n": 3, "on": False}],
    "a": {"b c": {"d": [0, 1, 2, 3]}},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", DATA),
        ("$.t", 21.5),
        ("$.no", None),
        ("t", 21.5),
        ("$['a']['b c'].d[-1]", 3),
        ("$.list[1]", {"n": 2}),
        ("$.list[*].n", [1, 2, 3]),
        ("$..n", [1, 2, 3]),
        ("$.list[0,2].n", [1, 3]),
        ("$.a['b c'].d[1:3]", [1, 2]),
        ("$.list[?(@.n > 1)].n", [2, 3]),
        ("$.list[?(@.n >= 2 && @.on == false)].n", [3]),
        ("$.list[?@.on].n", [1, 3]),
        ("$.list[?@.n < $.t && !@.on].n", [2]),
        ("$.list[?@.n in [1, 3]].n", [1, 3]),
        ("$.a[?length(@.d) == 4].d[0]", [0]),
        ("$.none[*]", []),
    ],
)
def test_the_data_become_what_is_at_the_path(path: str, found: Any) -> None:
    bench = passed(PATH, {"jsonPath": path}, DATA)
    assert bench.labels == ["Success"]
    assert bench.bodies == [found]


def test_without_a_path_all_is_meant() -> None:
    assert passed(PATH, {}, DATA).bodies == [DATA]


@pytest.mark.parametrize("path", ["$.none", "$.t.x", "$.list[7]", "$.list.n"])
def test_nothing_there_is_a_failure(path: str) -> None:
    assert passed(PATH, {"jsonPath": path}, DATA).failure == "There is nothing at the JSON path"


def test_data_that_are_no_json_are_a_failure() -> None:
    for data in (b"", b"{", b"[" * 65 + b"]" * 65):
        assert passed(PATH, {"jsonPath": "$.a"}, data).failure.startswith("The message is not JSON: ")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("$.", "jsonPath '$.': expected a shorthand selector"),
        ("$[", "unexpected end of query"),
        ("a b", "unexpected token"),
        ("$.a | $.b", "it is more than one path"),
        ("$.a & $.b", "it is more than one path"),
        ("^.a", "does not begin at the root"),
        ("$.~", "not in RFC 9535"),
        ("$[$.a]", "not in RFC 9535"),
        ("$[?@.a =~ /(a+)+b/]", "regular expressions are not taken here"),
        ("$[?match(@.a, '(a+)+b')]", "function 'match' is not defined"),
        ("$[?search(@.a, '(a+)+b')]", "function 'search' is not defined"),
        ("$[?@..a]", "a filter may look at single values only"),
        ("$[?@.a && (@.b == 1 || @[?@.c])]", "a filter may look at single values only"),
        ("$.a.length()", "unexpected token"),
        ("$" + ".a" * 500, "more than 1,000 characters"),
        ("$[?" + "(" * 900, "recursion"),
        ("$[?" + "!" * 900 + "@.a]", "recursion"),
        ("$[" + "9" * 900 + "]", "index out of range"),
        ("$[?@.a == 1e400]", "infinity"),
    ],
)
def test_bad_paths_are_refused(path: str, said: str) -> None:
    assert said in refusal(PATH, {"jsonPath": path})


def test_a_path_that_is_no_text_is_refused_by_field() -> None:
    assert "$.jsonPath" in refusal(PATH, {"jsonPath": 5})


def _nested(width: int) -> Any:
    value: Any = 0
    for _ in range(30):
        value = {"k": value, "l": [0] * width}
    return value


def _doubled() -> Any:
    value: Any = 0
    for _ in range(60):
        value = [value, 0]
    return value


WIDE = {"s": "a" * 200_000, "n": list(range(15_000)), "same": [{"x": [0] * 100}] * 100}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("$..*..*..*..*", _nested(100)),
        ("$" + "[0,0]" * 60, _doubled()),
        ("$" + "[*,*,*,*,*]" * 60, _doubled()),
        ("$[" + ",".join(['"n"'] * 190) + "][?@ == -1]", WIDE),
        ("$.n[?@ in $.n]", WIDE),
        ("$..[?$.s contains 'aaaab']", WIDE),
        ("$.same[?@.x == $.same[0].x]", WIDE),
        ("$.n[?length($.n) == 1]", WIDE),
        ("$.n[" + "0:9999:1," * 90 + "0]", WIDE),
    ],
)
def test_no_path_takes_long_for_any_data(path: str, data: Any) -> None:
    compiled = Path(path)
    before = time.process_time()
    with pytest.raises(PathFailed, match=r"looks at more than 20,000 values|compares arrays or objects"):
        compiled.find(data)
    assert time.process_time() - before < 1


def test_one_evaluation_leaves_nothing_for_the_next() -> None:
    path = Path("$.n[*]")
    for _ in range(3):
        assert len(json.loads(path.find(WIDE))) == 15_000


def test_what_stands_in_each_other_is_not_found_without_end() -> None:
    deep: Any = "x" * 20_000
    for _ in range(60):
        deep = [deep]
    with pytest.raises(PathFailed, match="What is at the JSON path is larger than 1,048,576 bytes"):
        Path("$..*").find(deep)


@pytest.mark.parametrize(("data", "bodies"), [([1, {"a": 2}, None], [1, {"a": 2}, None]), ([[]], [[]]), ([7], [7])])
def test_an_array_is_split_into_messages(data: Any, bodies: list[Any]) -> None:
    bench = passed(SPLIT, {}, data, metadata={"k": "v"}, type="T")
    assert bench.labels == ["Success"] * len(bodies)
    assert bench.bodies == bodies
    assert {(went.type, went.metadata["k"]) for _, went in bench.came} == {("T", "v")}
    assert len({went.id for _, went in bench.came}) == len(bodies)


def test_an_empty_array_ends_there() -> None:
    bench = passed(SPLIT, {}, [])
    assert bench.labels == [None]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"a": 1}, "The message is not a JSON array"),
        (b"[1", "The message is not JSON"),
        ([0] * 1001, "More than 1,000 messages would become of one"),
    ],
)
def test_what_cannot_be_split_fails(data: Any, said: str) -> None:
    assert said in passed(SPLIT, {}, data).failure
