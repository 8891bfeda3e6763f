"""The document of the API tells the truth about the table of routes, and the page shows all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, Never

import pytest
import pytest_twisted
from rest import Rest

from rpcbroker.api import errors as api_errors
from rpcbroker.api.openapi import document
from rpcbroker.api.reading import page
from rpcbroker.api.routes import ADMINS, Route
from rpcbroker.core import errors as e
from rpcbroker.core.model import Authority, KeyAccess
from rpcbroker.schema.common import PageQuery
from rpcbroker.schema.people import CustomerBody, CustomerJSON

TABLE = Rest().table
DOCUMENT = document(TABLE)


def operation_of(route: Route, of: Any = DOCUMENT) -> Any:
    return of["paths"][re.sub(r"<(\w+)>", r"{\1}", route.path)][route.method.lower()]


def nodes(of: Any) -> Iterator[Any]:
    """All objects in it."""
    if isinstance(of, dict):
        yield of
        of = list(of.values())
    if isinstance(of, list):
        for each in of:
            yield from nodes(each)


def a_route(**more: Any) -> Route:
    async def handler() -> None:
        """Wait for what happens."""

    members: dict[str, Any] = {
        "operation": "wait",
        "method": "GET",
        "path": "/api/wait",
        "roles": None,
        "tag": "Waiting",
    }
    return Route(handler=handler, **members | more)


# -- the document


def test_every_route_is_an_operation_and_every_operation_a_route() -> None:
    operations = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(operations) == len(TABLE)
    assert sorted(each["operationId"] for each in operations) == sorted(route.operation for route in TABLE)
    for route in TABLE:
        assert operation_of(route)["operationId"] == route.operation
        assert operation_of(route)["tags"] == [route.tag]


def test_operation_ids_are_unique() -> None:
    ids = [route.operation for route in TABLE]
    assert len(ids) == len(set(ids))


def test_every_operation_says_what_it_is_for() -> None:
    for route in TABLE:
        assert operation_of(route)["summary"].endswith("."), route.operation


def test_every_error_that_a_route_can_meet_has_its_status() -> None:
    for route in TABLE:
        met = {*route.errors, e.InvalidRequest, e.BrokerError, e.Unavailable, e.PayloadTooLarge, e.TooManyRequests}
        if route.roles is not None:
            met |= {e.NotAuthenticated, e.TokenExpired, e.PermissionDenied}
        if "_id>" in route.path:
            met |= {e.NotFound}
        responses = operation_of(route)["responses"]
        for each in met:
            status = str(route.statuses.get(each, api_errors.TABLE[each].status))
            schema = responses[status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}, route.operation


def test_no_error_is_left_out_of_the_document() -> None:
    """Only what depends on no operation: a method that none has, and a path that speaks WebSocket."""
    declared = {
        status for methods in DOCUMENT["paths"].values() for each in methods.values() for status in each["responses"]
    }
    missing = {each for each, row in api_errors.TABLE.items() if str(row.status) not in declared}
    assert missing == {e.MethodNotAllowed, e.UpgradeRequired}


def test_a_route_that_always_fails_promises_nothing() -> None:
    never = [route for route in TABLE if route.answers is Never]
    assert {route.operation for route in never} == {"loginPublic", "assignDeviceToPublicCustomer"}
    for route in TABLE:
        assert ("200" in operation_of(route)["responses"]) == (route not in never)


def test_what_an_answer_is_made_of_is_its_content() -> None:
    for route in TABLE:
        good = operation_of(route)["responses"].get("200", {})
        if route.answers in {None, Never}:
            assert "content" not in good
        else:
            content_type, *more = good["content"]
            assert content_type == route.content_type.partition(";")[0]
            assert more == (["text/event-stream"] if route.may_stream else [])


def test_headers_that_answers_carry_are_declared() -> None:
    for route in TABLE:
        responses = operation_of(route)["responses"]
        assert "Retry-After" in responses["429"]["headers"]
        assert ("401" in responses) == (route.roles is not None or e.NotAuthenticated in route.errors)
        assert "WWW-Authenticate" in responses.get("401", {"headers": ["WWW-Authenticate"]})["headers"]
        assert ("headers" in responses.get("200", {})) == (route.tag == "Calls")


def test_security_says_what_roles_say() -> None:
    for route in TABLE:
        operation = operation_of(route)
        schemes = [scheme for each in operation["security"] for scheme in each]
        if route.roles is None:
            assert schemes == []
            continue
        assert schemes == (["bearer"] if route.access is None else ["bearer", "apiKey"])
        for role in Authority:
            everybody = route.roles == frozenset(Authority)
            assert (role.value in operation["description"]) == (role in route.roles and not everybody)
        assert set(schemes) <= set(DOCUMENT["components"]["securitySchemes"])


def test_parameters_of_paths_are_declared() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            declared = [each for each in operation.get("parameters", ()) if each["in"] == "path"]
            assert [each["name"] for each in declared] == re.findall(r"\{(\w+)\}", path)
            for each in declared:
                assert each["required"]
                assert (each["schema"].get("format") == "uuid") == each["name"].endswith("_id")


def test_all_references_resolve_and_all_types_are_referred_to() -> None:
    found = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    assert found == {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}


def test_nothing_refers_to_the_outside() -> None:
    assert "://" not in json.dumps(DOCUMENT)
    assert DOCUMENT["servers"] == [{"url": "/"}]


def test_a_member_called_title_is_no_title_of_a_schema() -> None:
    schema = DOCUMENT["components"]["schemas"]["CustomerBody"]
    assert set(schema["required"]) <= set(schema["properties"])
    assert schema["properties"]["title"]["type"] == "string"
    assert not [node for node in nodes(DOCUMENT["components"]["schemas"]) if isinstance(node.get("title"), str)]


def test_lists_say_what_they_can_be_sorted_by() -> None:
    lists = [route for route in TABLE if isinstance(route.query, type) and issubclass(route.query, PageQuery)]
    assert len(lists) > 10
    for route in lists:
        parameters = {each["name"]: each["schema"] for each in operation_of(route)["parameters"]}
        first, *_, last = parameters["sortProperty"]["enum"]
        assert (first, last) == ("createdTime", ""), route.operation


def test_queries_are_parameters_and_no_types() -> None:
    assert not [name for name in DOCUMENT["components"]["schemas"] if name.endswith(("Query", "JSON"))]


def test_a_stream_is_marked() -> None:
    of = document([a_route(stream=True, answers=str, content_type="text/event-stream"), a_route(path="/api/once")])
    assert of["paths"]["/api/wait"]["get"]["x-stream"] is True
    assert "x-stream" not in of["paths"]["/api/once"]["get"]
    assert page(of).count("stream that does not end") == 1


def test_a_row_is_all_that_the_document_is_made_of() -> None:
    route = a_route(
        method="PUT",
        path="/api/thing/<thing_id>",
        roles=ADMINS,
        access=KeyAccess.CALL,
        body=CustomerBody,
        answers=CustomerJSON,
        created=True,
        errors=(e.CallTimeout,),
        statuses={e.CallTimeout: 504},
    )
    operation = operation_of(route, document([route]))
    assert operation["summary"] == "Wait for what happens."
    assert operation["security"] == [{"bearer": []}, {"apiKey": []}]
    assert operation["requestBody"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/CustomerBody"}}
    }
    statuses = [200, 201, 400, 401, 403, 404, 408, 413, 414, 415, 417, 429, 431, 500, 503, 504]
    assert list(operation["responses"]) == [str(status) for status in statuses]
    assert operation["responses"]["201"]["content"] == operation["responses"]["200"]["content"]


# -- as it is served


@pytest_twisted.ensureDeferred
async def test_the_document_is_served_to_anybody() -> None:
    status, answer, headers = await Rest().ask("GET", "/openapi.json", token=None)
    assert (status, headers.getRawHeaders("content-type")) == (200, ["application/json"])
    assert answer == json.loads(json.dumps(DOCUMENT))


class Links(HTMLParser):
    """The ids of a page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src", "action", "srcset", "data"}:
                self.links.append(value or "")


@pytest_twisted.ensureDeferred
async def test_the_page_shows_every_operation_and_every_type() -> None:
    status, text, headers = await Rest().ask("GET", "/docs", token=None)
    assert (status, headers.getRawHeaders("content-type")) == (200, ["text/html; charset=utf-8"])
    links = Links(text)
    assert len(links.ids) == len(set(links.ids))
    assert {route.operation for route in TABLE} <= set(links.ids)
    assert {f"type-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(links.ids)
    for path in DOCUMENT["paths"]:
        assert f"<code>{path}</code>" in text
    assert "milliseconds to wait for a device that is offline" in text


@pytest.mark.parametrize("path", ["/docs", "/api/noauth/activate?activateToken=x"])
@pytest_twisted.ensureDeferred
async def test_pages_ask_nothing_of_the_outside(path: str) -> None:
    rest = Rest()
    _, text, headers = await rest.ask("GET", path, token=None)
    links = Links(text)
    assert links.links
    for link in links.links:
        assert re.fullmatch(r"/[\w./-]*|#[\w-]+", link), link
        if link.startswith("#"):
            assert link.removeprefix("#") in links.ids, link
        else:
            assert (await rest.ask("GET", link, token=None))[0] == 200, link
    (policy,) = headers.getRawHeaders("content-security-policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers.getRawHeaders("x-content-type-options") == ["nosniff"]
    assert "style=" not in text
    assert "<script>" not in text


def test_what_is_written_in_the_document_is_text_on_the_page() -> None:
    of = document([a_route(tag="<b>")])
    of["info"]["description"] = "<script>alert(1)</script>"
    of["paths"]["/api/wait"]["get"]["summary"] = '"><img src=x> `a < b`'
    text = page(of)
    assert not Links(text).tags & {"script", "img"}
    assert "<code>a &lt; b</code>" in text
