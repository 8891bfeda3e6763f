"""Whatever is asked of the real broker, by whom, and in which form: its document has declared the answer.

`make fuzz` does the same for longer, with other seeds: it sets FUZZ_EXAMPLES.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from town import NOBODY, ROLES, Heard, Town

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent / "fuzz"
LONG = int(os.environ.get("FUZZ_EXAMPLES", "0"))
UNKNOWN = "00000000-0000-4000-8000-00000000dead"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
JSON = {"Content-Type": "application/json"}
BODIES: dict[str, tuple[bytes | None, dict[str, str]]] = {
    "nothing": (None, {}),
    "text": (b"x", {"Content-Type": "text/plain"}),
    "XML": (b"<x/>", {"Content-Type": "application/xml"}),
    "a form": (b"a=b&c=d", {"Content-Type": "application/x-www-form-urlencoded"}),
    "gzip": (gzip.compress(b"{}"), JSON | {"Content-Encoding": "gzip"}),
    "bad JSON": (b'{"name": ', JSON),
    "an empty object": (b"{}", JSON),
    "5 MiB": (b"[" + b" " * (5 << 20) + b"]", JSON),
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.stop()


def program(name: str) -> str:
    python = Path(os.environ.get("FUZZ_PYTHON", ""))
    assert python.is_file(), "FUZZ_PYTHON names no Python; `make test` makes one"
    return str(python.parent / name)


def document(town: Town) -> Any:
    return json.loads(town.ask(NOBODY, "GET", "/openapi.json").body)


def operations(town: Town) -> Iterator[tuple[str, str, Any]]:
    """Method, path, and what the document says of it."""
    for path, methods in document(town)["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def filled(town: Town, path: str, *, real: bool) -> str:
    """A path with `real` ids of things, or with one that nothing has."""
    texts = {
        "entity_type": "DEVICE",
        "any_type": "DEVICE",
        "owner_type": "CUSTOMER",
        "owned_type": "DEVICE",
        "enabled": "true",
    }
    kinds = {"owner_id": "customer", "entity_id": "device"}

    def value(match: re.Match[str]) -> str:
        known = town.ids.get(kinds.get(match[1], match[1].removesuffix("_id")), [UNKNOWN])
        return texts.get(match[1]) or (known[0] if real else UNKNOWN)

    return re.sub(r"\{(\w+)\}", value, path)


def undeclared(operation: Any, heard: Heard) -> str | None:
    """What is wrong with an answer, by the document."""
    declared = operation["responses"].get(str(heard.status))
    if declared is None:
        return f"{heard.status} is not declared"
    kind = heard.headers.get("content-type", "").partition(";")[0]
    kinds = declared.get("content", {})
    if heard.body and kind not in kinds:
        return f"{heard.status} with {kind or 'no type'} is not declared"
    if not heard.body and kinds:
        return f"{heard.status} is empty"
    return None


def test_the_document_is_openapi(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document(town)))
    done = subprocess.run(
        [program("python"), "-m", "openapi_spec_validator", "--schema", "3.1", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_no_answer_is_other_than_the_document_says(town: Town, role: str, tmp_path: Path) -> None:
    """Schemathesis: what it checks, what it does not and why stands in fuzz/schemathesis.toml."""
    seed = random.randrange(10**6) if LONG else 1
    command = [
        program("schemathesis"),
        "run",
        f"{town.daemon.http}/openapi.json",
        *["--no-color", "--generation-database", "none", "--seed", str(seed)],
        *["--max-examples", str(LONG or 2)],
        *["--phases", "coverage,fuzzing" if LONG or role == "TENANT_ADMIN" else "fuzzing"],
    ]
    if role == "API key":
        # there is a second scheme, and the tool takes that for what these two checks are about
        command += ["--header", f"X-Authorization: {town.authorization[role]}"]
        command += ["--exclude-checks", "ignored_auth,missing_required_header"]
    elif role in town.authorization:
        command += ["--header", f"Authorization: {town.authorization[role]}"]
    known = {"TOWN_IDS": json.dumps(town.ids), "TOWN_KEPT": json.dumps(town.kept)}
    with (tmp_path / "log").open("w+") as log:
        done = subprocess.run(command, check=False, cwd=HERE, env=os.environ | known, stdout=log, stderr=log)
        log.seek(0)
        assert done.returncode == 0, f"seed {seed}\n{log.read()[-20_000:]}"
    assert role == NOBODY or town.ask(role, "GET", "/api/auth/user").status == 200, "it shut itself out"
    town.check_well()


@pytest.mark.parametrize("role", ["TENANT_ADMIN", NOBODY])
def test_no_form_of_a_body_gets_an_undeclared_answer(town: Town, role: str) -> None:
    headers = {"X-Authorization": town.authorization[role]} if role in town.authorization else {}
    wrong = []
    for method, path, operation in operations(town):
        if operation["operationId"] == "logout" or "x-stream" in operation:
            continue
        url = filled(town, path, real=method == "GET" or "/rpc/" in path)
        for name, (body, of_body) in BODIES.items():
            heard = town.send(method, url, body=body, headers=headers | of_body)
            if problem := undeclared(operation, heard):
                wrong.append(f"{method} {path} with {name}: {problem}")
            elif (name == "5 MiB") != (heard.status == 413):
                wrong.append(f"{method} {path} with {name}: {heard.status}")
    assert not wrong, "\n".join(wrong)
    town.check_well()


def test_what_may_not_be_done_with_a_path_is_405_and_says_what_may(town: Town) -> None:
    allowed: dict[str, set[str]] = {}
    for method, path, _ in operations(town):
        allowed.setdefault(path, set()).update({"GET", "HEAD"} if method == "GET" else {method})
    wrong = []
    for path, may in allowed.items():
        for method in set(METHODS) - may:
            for name in ("nothing", "an empty object"):
                body, of_body = BODIES[name]
                heard = town.send(method, filled(town, path, real=True), body=body, headers=of_body)
                told = {each.strip() for each in heard.headers.get("allow", "").split(",")}
                if (heard.status, told) != (405, may) or heard.headers.get("content-type") != "application/json":
                    wrong.append(f"{method} {path} with {name}: {heard}")
    assert not wrong, "\n".join(wrong)


def test_head_is_get_without_a_body(town: Town) -> None:
    for method, path, operation in operations(town):
        if method == "GET" and "x-stream" not in operation:
            url = filled(town, path, real=True)
            get, head = (town.ask("TENANT_ADMIN", each, url) for each in ("GET", "HEAD"))
            assert (head.status, head.body) == (get.status, b""), path
            assert head.headers.get("content-type") == get.headers.get("content-type"), path


def test_who_asks_too_often_is_told_so_in_a_declared_way(tmp_path: Path) -> None:
    town = Town(tmp_path, RPCBROKER_HTTP_USER_RATE="100:3600")
    try:
        role, heard = "CUSTOMER_USER", Heard(200, {}, b"")
        for _ in range(101):
            heard = town.ask(role, "GET", "/api/auth/user")
        assert heard.status == 429
        for method, path, operation in operations(town):
            heard = town.ask(role, method, filled(town, path, real=False), {})
            assert undeclared(operation, heard) is None, (method, path, heard)
            if operation["security"]:
                assert heard.status == 429, (method, path, heard)
                assert int(heard.headers["retry-after"]) > 0
        town.check_well()
    finally:
        town.stop()


def test_who_logged_out_is_out(town: Town) -> None:
    """The last one here: the token is gone after it."""
    assert town.ask("CUSTOMER_USER", "POST", "/api/auth/logout")[::2] == (200, b"")
    assert town.ask("CUSTOMER_USER", "GET", "/api/auth/user").status == 401
    town.check_well()
