"""The OpenAPI 3.1 document of the API, made of the table of routes and the schema's types; nothing is written twice."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Never

import msgspec

from rpcbroker import __version__
from rpcbroker.api.errors import TABLE
from rpcbroker.api.routes import EVERYONE, JSON, Action, Route
from rpcbroker.core import errors as e
from rpcbroker.core.model import Scope
from rpcbroker.schema.common import ErrorJSON
from rpcbroker.wire.events import EVENT_STREAM

_PARAMETER = re.compile(r"<(\w+)>")
_TEXTS = {
    "enabled": {"type": "string", "pattern": "^([tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$"},
    "entity_type": {"type": "string", "enum": ["DEVICE"]},
    "event_entity": {"type": "string", "enum": ["RULE_NODE"]},
    "event_type": {"type": "string", "enum": ["DEBUG_RULE_NODE", "ERROR", "LC_EVENT", "STATS"]},
    "owner_type": {"type": "string", "enum": ["CUSTOMER", "TENANT"]},
    "owned_type": {"type": "string", "enum": ["DEVICE"]},
    "scope": {"type": "string", "enum": list(Scope)},
    "timeout": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}
"""Parameters in paths that are neither ids nor any text."""

_UUID = {"type": "string", "format": "uuid"}

_HEADERS: dict[int, dict[str, Any]] = {
    401: {"headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}},
    429: {"headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}},
}
"""What failures say beside their bodies."""

_ALWAYS = (
    e.InvalidRequest,
    e.RequestTimedOut,
    e.PayloadTooLarge,
    e.TargetTooLong,
    e.UnsupportedMediaType,
    e.UnsupportedExpectation,
    e.TooManyRequests,
    e.HeadersTooLarge,
    e.Unavailable,
    e.BrokerError,
)
"""What any request may meet before its handler, or in it when the server is in trouble."""

_DESCRIPTION = """\
The interface for callers of devices, and for those who look after them. All bodies are JSON in UTF-8.
Every failure is answered with an Error, whose hint says what to do. Log in by `POST /api/auth/login` and send
`X-Authorization: Bearer <token>`, or send `X-Authorization: ApiKey <key>`; the header Authorization works as well.
"""


def document(table: Iterable[Route]) -> dict[str, Any]:
    """What `GET /openapi.json` answers."""
    table = tuple(table)
    types = _types(table)
    (*schemas,), components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    names = {name: _name(name) for name in components}
    schema_of = {id(type_): _renamed(schema, names) for type_, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    queries = {_key(route.query) for route in table if route.query is not None}
    renamed = {names[name]: _renamed(schema, names) for name, schema in components.items()}
    for route in table:
        operation = _operation(route, schema_of, renamed)
        paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rpcbroker",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in table)],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in sorted(renamed.items()) if name not in queries},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Authorization",
                    "description": "`ApiKey`, a blank, and the key",
                },
            },
        },
    }


def _types(table: tuple[Route, ...]) -> list[Any]:
    found: list[Any] = [ErrorJSON]
    for route in table:
        found += [each for each in (route.body, route.query, *_answers(route)) if each not in {None, Never}]
    return list({id(each): each for each in found}.values())


def _answers(route: Route) -> tuple[Any, ...]:
    return route.answers if isinstance(route.answers, tuple) else (route.answers,)


def _operation(route: Route, schema_of: Mapping[int, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    summary, description = _texts(route)
    operation: dict[str, Any] = {"operationId": route.operation, "tags": [route.tag], "summary": summary}
    notes = [description, _who(route)]
    operation["description"] = "\n\n".join(note for note in notes if note)
    parameters = [*_path_parameters(route), *_query_parameters(route, components)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content_types = (JSON, "text/plain") if route.raw_body else (JSON,)
        content = {each: {"schema": schema_of[id(route.body)]} for each in content_types}
        operation["requestBody"] = {"required": True, "content": content}
    operation["responses"] = _responses(route, schema_of)
    operation["security"] = [] if route.roles is None else [{"bearer": []}]
    if route.roles is not None and route.access is not None:
        operation["security"].append({"apiKey": []})
    if route.stream:
        operation["x-stream"] = True
    return operation


def _texts(route: Route) -> tuple[str, str]:
    lines = inspect.getdoc(route.handler)
    assert lines, f"{route.operation} has no docstring"
    summary, _, description = lines.partition("\n\n")
    return summary.replace("\n", " "), description


def _who(route: Route) -> str:
    if route.roles is None:
        return "For anybody, without logging in."
    roles = "every user" if route.roles == EVERYONE else ", ".join(sorted(route.roles))
    keys = "no API key" if route.access is None else f"API keys with access {route.access.value} or more"
    return f"For {roles}; {keys}."


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _UUID if name.endswith("_id") else _TEXTS.get(name, {"type": "string", "minLength": 1}),
        }
        for name in _PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = components[_key(route.query)]
    required = set(schema.get("required", ()))
    found = []
    for name, member in schema["properties"].items():
        plain = {key: value for key, value in member.items() if key not in {"description", "default"}}
        options = [each for each in plain.pop("anyOf", ()) if each != {"type": "null"}]
        for option in options:
            plain = option | plain
        if member.get("default") is not None:
            plain["default"] = member["default"]
        parameter = {"name": name, "in": "query", "required": name in required, "schema": plain}
        if "description" in plain:
            parameter["description"] = plain.pop("description")
        if "description" in member:
            parameter["description"] = member["description"]
        if name == "sortProperty":
            parameter["schema"]["enum"] = [*_sorts(route), ""]
        found.append(parameter)
    return found


def _sorts(route: Route) -> tuple[str, ...]:
    """What a list can be sorted by is the SORTS of its handler's module."""
    return tuple(getattr(inspect.getmodule(route.handler), "SORTS", ()))


def _responses(route: Route, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if route.answers is not Never:
        responses["200"] = good = _good(route, schema_of)
        if route.created:
            responses["201"] = good | {"description": "It is new."}
    errors = [*_ALWAYS, *route.errors]
    if route.roles is not None:
        errors += [e.NotAuthenticated, e.PermissionDenied]
    if "_id>" in route.path:
        errors.append(e.NotFound)
    failure = {"schema": schema_of[id(ErrorJSON)]}
    for status in sorted({route.statuses.get(each, TABLE[each].status) for each in errors}):
        phrase = HTTPStatus(status).phrase
        responses[str(status)] = {"description": f"{phrase}.", "content": {JSON: failure}} | _HEADERS.get(status, {})
    return responses


def _good(route: Route, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "It worked."}
    if route.answers is not None:
        schemas = [schema_of[id(each)] for each in _answers(route)]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        good["content"] = {route.content_type.partition(";")[0]: {"schema": schema}}
    if route.may_stream:
        good.setdefault("content", {})[EVENT_STREAM] = {"schema": {"type": "string"}}
    if route.action is Action.RPC_CALL:
        good["headers"] = {
            "X-RPC-Id": {"required": True, "description": "the id of the call", "schema": _UUID},
        }
    return good


def _key(type_: Any) -> str:
    return _name(str(type_.__name__))


def _name(name: str) -> str:
    """`DeviceJSON` is Device in the document, `PageJSON_DeviceJSON_` is PageDataDevice."""
    if name.startswith("PageJSON_"):
        return f"PageData{_name(name.removeprefix('PageJSON_').removesuffix('_'))}"
    return name.removesuffix("JSON")


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {
        key: _renamed(value, names) for key, value in schema.items() if key != "title" or not isinstance(value, str)
    }
    reference = schema.get("$ref")
    if reference is not None:
        base, _, name = reference.rpartition("/")
        renamed["$ref"] = f"{base}/{names[name]}"
    return renamed
