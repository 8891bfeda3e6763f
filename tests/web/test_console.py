"""The console's files as a browser gets them: with the right type, kept until they change, and none beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from door import Door
from hostile import Answer, answers, check_error

import rpcbroker
from rpcbroker.web.console import TYPES, Console

DIRECTORY = Path(rpcbroker.__file__).parent / "console"
FILES = sorted(path for path in DIRECTORY.rglob("*") if path.is_file())
SCRIPT = "/console/vendor/htm-preact.js"


class ConsoleDoor(Door):
    """A front door with the console before its other resources."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = True
        self.site.resource = Console(self.root, lambda: self.shown)

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
        caller = self.caller()
        caller.channel.dataReceived("\r\n".join([*lines, "", ""]).encode())
        (answer,) = answers(caller.wire.value(), bodies=method != "HEAD")
        return answer


@pytest.fixture
def door() -> ConsoleDoor:
    return ConsoleDoor()


def test_every_file_of_the_package_is_served_as_what_it_is(door: ConsoleDoor) -> None:
    assert len(FILES) > 5
    for file in FILES:
        path = f"/console/{file.relative_to(DIRECTORY).as_posix()}".removesuffix("console/index.html")
        answer = door.ask(path)
        assert (answer.status, answer.body) == (200, file.read_bytes()), path
        assert answer.headers["content-type"] == [TYPES[file.suffix[1:]]]


def test_a_page_may_load_nothing_from_elsewhere_and_run_nothing_that_is_not_a_file(door: ConsoleDoor) -> None:
    for path in ("/", SCRIPT):
        headers = door.ask(path).headers
        (policy,) = headers["content-security-policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert (rules["default-src"], rules["script-src"], rules["style-src"]) == ("'none'", "'self'", "'self'")
        assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert headers["x-content-type-options"] == ["nosniff"]
        assert headers["referrer-policy"] == ["no-referrer"]


def test_what_a_browser_has_is_not_sent_again_until_it_changes(door: ConsoleDoor) -> None:
    first = door.ask(SCRIPT)
    assert first.headers["cache-control"] == ["no-cache"]
    (etag,) = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = door.ask(SCRIPT, **{"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", [etag])
        assert "content-length" not in again.headers
    for stale in ('"other"', "rubbish", ""):
        assert door.ask(SCRIPT, **{"If-None-Match": stale}).body == first.body
    assert door.ask("/").headers["etag"] != [etag]


def test_head_is_get_without_the_content(door: ConsoleDoor) -> None:
    for path in ("/", SCRIPT):
        got, headed = door.ask(path), door.ask(path, "HEAD")
        assert (headed.status, headed.body) == (200, b"")
        assert headed.headers == got.headers
        assert int(got.headers["content-length"][0]) == len(got.body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_put_there(door: ConsoleDoor, method: str) -> None:
    answer = door.ask("/", method)
    assert (answer.status, answer.headers["allow"]) == (405, ["GET, HEAD"])
    check_error(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/console",
        "/console/",
        "/console/index.html",
        "/console/none.js",
        "/console/vendor",
        "/console/vendor/",
        "/console/../__init__.py",
        "/console/vendor/../../__init__.py",
        "/console/..%2f__init__.py",
        "/console/%2e%2e/__init__.py",
        "/console//vendor/htm.js",
        "/console/vendor/./htm.js",
        "/console/vendor/htm.js%00",
        "/console/vendor/HTM.JS",
        "/console/vendor\\htm.js",
        "//",
    ],
)
def test_other_paths_are_none_of_its_files(door: ConsoleDoor, path: str) -> None:
    answer = door.ask(path)
    assert "content-security-policy" not in answer.headers
    assert answer.body in {b"{}", b""} or answer.status == 400  # as of the resource beyond


def test_a_query_is_not_looked_at(door: ConsoleDoor) -> None:
    assert door.ask("/?v=1").body == door.ask("/").body


def test_files_are_read_once(door: ConsoleDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    before = door.ask(SCRIPT).body
    monkeypatch.setattr("rpcbroker.web.console.files", None)
    assert door.ask(SCRIPT).body == before


def test_it_can_be_switched_off_and_on_while_it_runs(door: ConsoleDoor) -> None:
    door.shown = False
    assert [door.ask(path).body for path in ("/", SCRIPT)] == [b"{}", b"{}"]
    door.shown = True
    assert door.ask("/").headers["content-type"] == [TYPES["html"]]


# -- what the files say

OURS = [path for path in FILES if path.suffix in {".js", ".html", ".css"} and "vendor" not in path.parts]
IMPORTS = re.compile(
    r"""^(?:(?:import|export|\}).*?\bfrom|import)\s*["']([^"']+)["']|\bimport\(["']([^"']+)["']""", re.MULTILINE
)
LINKS = re.compile(r"""(?:href|src)=["'](/[^"']*)["']""")


@pytest.mark.parametrize("file", [path for path in FILES if path.suffix == ".js"], ids=lambda path: path.name)
def test_what_a_module_imports_is_there(file: Path) -> None:
    for name in map("".join, IMPORTS.findall(file.read_text())):
        assert name.startswith("."), f"{name}: a browser knows paths only"
        assert (file.parent / name).is_file(), name


def test_what_the_page_links_to_is_there(door: ConsoleDoor) -> None:
    links = set(LINKS.findall((DIRECTORY / "index.html").read_text()))
    assert links - {"/docs"} <= {path.decode() for path in door.site.resource.files}


@pytest.mark.parametrize("file", OURS, ids=lambda path: path.relative_to(DIRECTORY).as_posix())
def test_text_stays_text_and_nothing_is_asked_elsewhere(file: Path) -> None:
    text = file.read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert way not in text, way
    for url in re.findall(r"https?://[^\s\"'`<)]+", text):
        assert url.startswith("http://www.w3.org/"), url


def test_what_is_vendored_says_which_version_it_is_and_under_which_licence() -> None:
    vendor = DIRECTORY / "vendor"
    pins = json.loads((vendor / "versions.json").read_text())
    files = {file for pinned in pins.values() for file in pinned["files"]}
    assert files | {"versions.json", "LICENSES.md", "htm-preact.js"} == {path.name for path in vendor.iterdir()}
    licences = (vendor / "LICENSES.md").read_text()
    for name, pinned in pins.items():
        assert f"## {name} {pinned['version']}: {pinned['license']}\n" in licences
        assert pinned["integrity"].startswith("sha512-")
