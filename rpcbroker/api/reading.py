"""An OpenAPI document as one HTML page: every operation, its parameters, bodies and answers, without a script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

_ERROR = '<a href="#type-Error">Error</a>'


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    info = document["info"]
    operations = list(_operations(document["paths"]))
    tags = [tag["name"] for tag in document["tags"]]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])} API</title>",
        '<link rel="stylesheet" href="/docs.css"></head><body>',
        f"<header><h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
        f"<p>{_code(info['description'])}</p>",
        '<p>For programs: <a href="/openapi.json">openapi.json</a></p></header><nav><ul>',
        *(f'<li><a href="#{_anchor(tag)}">{escape(tag)}</a></li>' for tag in tags),
        '<li><a href="#types">Types</a></li></ul></nav><main>',
    ]
    for tag in tags:
        parts.append(f'<h2 id="{_anchor(tag)}">{escape(tag)}</h2>')
        parts += [_operation(*each) for each in operations if tag in each[2]["tags"]]
    parts.append('<h2 id="types">Types</h2>')
    parts += [_type(name, schema) for name, schema in document["components"]["schemas"].items()]
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _operations(paths: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [
        f'<details id="{escape(operation["operationId"])}"><summary><b class="{method.lower()}">{method}</b> ',
        f"<code>{escape(path)}</code> <span>{_code(operation['summary'])}</span></summary>",
        *(f"<p>{_code(text)}</p>" for text in operation["description"].split("\n\n")),
    ]
    if operation.get("x-stream"):
        parts.append("<p>The answer is a stream that does not end.</p>")
    parameters = operation.get("parameters", ())
    if parameters:
        rows = (
            (
                f"<code>{escape(each['name'])}</code>{' *' if each['required'] else ''}",
                each["in"],
                _shape(each["schema"]),
                _code(each.get("description", "")),
            )
            for each in parameters
        )
        parts.append(_table(("parameter", "in", "type", ""), rows))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        schema = next(iter(content.values()))["schema"]
        parts.append(f"<p>Body: {_shape(schema)} as {' or '.join(map(escape, content))}</p>")
    responses = operation["responses"]
    answers = [
        (f"<code>{status}</code>", _code(answer["description"]), _content(answer))
        for status, answer in responses.items()
        if not _is_failure(status)
    ]
    if answers:
        parts.append(_table(("status", "", "answer"), answers))
    failures = ", ".join(
        f"<code>{status}</code> {escape(answer['description'].removesuffix('.'))}"
        for status, answer in responses.items()
        if _is_failure(status)
    )
    parts.append(f'<p class="failures">Failures, each an {_ERROR}: {failures}.</p>')
    parts.append(f"<p>Operation <code>{escape(operation['operationId'])}</code></p></details>")
    return "\n".join(parts)


def _is_failure(status: str) -> bool:
    return status >= "4"


def _content(answer: Mapping[str, Any]) -> str:
    media = answer.get("content", {})
    return ", ".join(f"{_shape(each['schema'])} as {escape(kind)}" for kind, each in media.items()) or "empty"


def _type(name: str, schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    head = f'<section id="type-{escape(name)}"><h3><code>{escape(name)}</code></h3>'
    about = f"<p>{_code(schema.get('description', ''))}</p>"
    if "properties" not in schema:
        return f"{head}{about}<p>{_shape(schema)}</p></section>"
    rows = (
        (
            f"<code>{escape(member)}</code>{' *' if member in required else ''}",
            _shape(shape),
            _code(_description(shape)),
        )
        for member, shape in schema["properties"].items()
    )
    return f"{head}{about}{_table(('member', 'type', ''), rows)}</section>"


def _description(schema: Mapping[str, Any]) -> str:
    """Of a member that may be null it stands with what else it may be."""
    found = [each["description"] for each in (schema, *schema.get("anyOf", ())) if "description" in each]
    return found[0] if found else ""


def _shape(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to the named ones."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(map(_shape, schema[key]))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"] if each != "")
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"array of {_shape(schema.get('items', {}))}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("minLength", "at least"), ("maxLength", "at most"))
        if key in schema
    ]
    text = escape(" ".join([str(schema.get("format", kind)), *limits]))
    default = schema.get("default")
    return text if default is None else f"{text}, by default <code>{escape(str(default))}</code>"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>\n{body}</table>"


def _anchor(tag: str) -> str:
    return escape(f"tag-{tag.lower().replace(' ', '-')}")


def _code(text: str) -> str:
    """Text for people; what stands between backquotes is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
