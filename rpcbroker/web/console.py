"""The console's files: at `/` its page, at `/console/<file>` what the page is made of. All else is the API's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import cast

from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from werkzeug.http import parse_etags

from rpcbroker.core.errors import MethodNotAllowed
from rpcbroker.web.request import LimitedRequest

INDEX = "index.html"
PREFIX = "/console/"
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "md": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
}
"""Content types by the ends of names; a file with another is not served."""
HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for each time: an upgraded broker shows its own console
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every file. In today's browsers 'self' is the broker's WebSockets too."""
METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class File:
    """What is served at one path."""

    content: bytes
    content_type: str
    etag: str
    """Without its quotes."""


class Console(Resource):
    """The console's files, and past them another resource.

    They are read with the first request, all at once, and not again: what a path shows does not change until the
    broker starts again, and nothing of a path is ever looked for on the disk.
    """

    isLeaf = True

    def __init__(self, beyond: IResource, shown: Callable[[], bool]) -> None:
        """`beyond` has all other paths, and these too while `shown` says no."""
        super().__init__()
        self._beyond = beyond
        self._shown = shown

    @cached_property
    def files(self) -> dict[bytes, File]:
        """By their paths, as they are requested."""
        found = dict(_walk(files("rpcbroker").joinpath("console"), PREFIX))
        return {b"/": found.pop((PREFIX + INDEX).encode()), **found}

    def render(self, request: Request) -> int | bytes:
        file = self.files.get(request.path) if self._shown() else None
        if file is None:
            return cast(bytes, self._beyond.render(request))
        _serve(cast(LimitedRequest, request), file)
        return NOT_DONE_YET


def _walk(directory: Traversable, path: str) -> Iterator[tuple[bytes, File]]:
    for each in directory.iterdir():
        if each.is_dir():
            yield from _walk(each, f"{path}{each.name}/")
        elif content_type := TYPES.get(each.name.rpartition(".")[2]):
            content = each.read_bytes()
            yield f"{path}{each.name}".encode(), File(content, content_type, sha256(content).hexdigest()[:32])


def _serve(request: LimitedRequest, file: File) -> None:
    if request.method.decode() not in METHODS:
        request.answer(MethodNotAllowed(f"This path takes {', '.join(METHODS)}", allowed=METHODS))
        return
    for name, value in HEADERS.items():
        request.setHeader(name, value)
    request.setHeader("ETag", f'"{file.etag}"')
    if parse_etags(request.getHeader("If-None-Match")).contains_weak(file.etag):
        request.setResponseCode(304)
    else:
        request.setHeader("Content-Type", file.content_type)
        request.setHeader("Content-Length", str(len(file.content)))
        request.write(file.content)
    request.finish()
