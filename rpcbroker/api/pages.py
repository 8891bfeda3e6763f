"""The few pages for people: the document of the API, and the one behind an activation link. No outside requests.

What makes the document is loaded when somebody reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from importlib.resources import files
from typing import Any

from rpcbroker.api.routes import HTML, JSON, Answer, Route
from rpcbroker.core import jsontext
from rpcbroker.schema.people import ActivateQuery

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _static(name: str) -> bytes:
    return files("rpcbroker.api").joinpath("static", name).read_bytes()


class Pages:
    """The handlers of what a browser shows. `show` comes first: the document is about all routes, these too."""

    def __init__(self) -> None:
        self._table: tuple[Route, ...] = ()

    def show(self, table: Iterable[Route]) -> None:
        """The routes that the document is about."""
        self._table = tuple(table)

    @cached_property
    def _document(self) -> dict[str, Any]:
        from rpcbroker.api.openapi import document

        return document(self._table)

    @cached_property
    def _openapi(self) -> bytes:
        return jsontext.encode(self._document)

    @cached_property
    def _docs(self) -> bytes:
        from rpcbroker.api.reading import page

        return page(self._document).encode()

    async def openapi(self) -> Answer:
        """This document, as OpenAPI 3.1."""
        return Answer(self._openapi, content_type=JSON)

    async def docs(self) -> Answer:
        """This document, as a page to read."""
        return Answer(self._docs, _HEADERS, content_type=HTML)

    async def style(self) -> Answer:
        """How the pages look."""
        return Answer(_static("pages.css"), {"X-Content-Type-Options": "nosniff"}, content_type="text/css")

    async def activate(self, *, query: ActivateQuery) -> Answer:
        """The page behind an activation link: it asks for a password."""
        return Answer(_static("activate.html"), _HEADERS, content_type=HTML)

    async def activate_script(self) -> Answer:
        """What the page behind an activation link does."""
        return Answer(_static("activate.js"), {"X-Content-Type-Options": "nosniff"}, content_type="text/javascript")
