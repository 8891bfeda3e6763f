"""Checks that several handlers make, with errors that say what is wrong in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import PageLink
from rpcbroker.schema.common import MAX_INFO, MAX_PAGE_SIZE, MAX_TEXT, TEXT_PATTERN, Contact, PageQuery, PartQuery
from rpcbroker.schema.ids import parse_uuid
from rpcbroker.schema.people import EMAIL_PATTERN, MAX_EMAIL

T = TypeVar("T")

_TEXT = re.compile(TEXT_PATTERN, re.DOTALL)
_EMAIL = re.compile(EMAIL_PATTERN)
MAX_IDS = 1_000


def text(label: str, value: str) -> str:
    """A name or a title, without blanks around it. Raises InvalidRequest."""
    plain(label, value)
    if not _TEXT.fullmatch(value):
        raise InvalidRequest(f"{label} should be specified!")
    return value.strip()


def plain(label: str, value: str | None, *, most: int = MAX_TEXT) -> str | None:
    """A text that a database can keep, of at most so many characters. Raises InvalidRequest."""
    if value is not None and (len(value) > most or "\x00" in value):
        raise InvalidRequest(f"{label} must have at most {most} characters, none of them U+0000")
    return value


def info(value: T) -> T:
    """An additionalInfo, of at most MAX_INFO bytes as JSON. Raises InvalidRequest."""
    if len(jsontext.encode(value)) > MAX_INFO:
        raise InvalidRequest(f"additionalInfo must have at most {MAX_INFO} bytes as JSON")
    return value


def contact(body: Contact) -> dict[str, str]:
    """The members of a contact that are given. Raises InvalidRequest."""
    given = {name: plain(name, getattr(body, name)) for name in Contact.__struct_fields__}
    return {name: value for name, value in given.items() if value is not None}


def version(stored: int, given: int | None) -> int:
    """That of a changed record: the store refuses it if the change is made from another one than the stored."""
    return (stored if given is None else given) + 1


def email(value: str) -> str:
    """Raises InvalidRequest."""
    if len(value) > MAX_EMAIL or not _EMAIL.fullmatch(value):
        raise InvalidRequest("Invalid email address format: it must look like name@example.org")
    return value


def part(query: PartQuery) -> None:
    """Which part of a list is asked for. Raises InvalidRequest if there cannot be such a one."""
    if not 1 <= query.page_size <= MAX_PAGE_SIZE:
        raise InvalidRequest(f"pageSize must be 1 to {MAX_PAGE_SIZE}")
    if not 0 <= query.page < 2**31:
        raise InvalidRequest("page must be 0 or more, and below 2147483648")


def page_link(query: PageQuery, sorts: Mapping[str, str]) -> PageLink:
    """`sorts`: the wire's name -> the member of the record; the first one is the default. Raises InvalidRequest."""
    part(query)
    order = query.sort_order.upper()
    if order not in {"ASC", "DESC"}:
        raise InvalidRequest(
            f"Unsupported sort order '{query.sort_order[:20]}'! Only 'ASC' or 'DESC' types are allowed."
        )
    sort = sorts.get(query.sort_property) if query.sort_property else next(iter(sorts.values()))
    if sort is None:
        raise InvalidRequest(f"sortProperty must be one of {', '.join(sorts)}")
    return PageLink(
        page_size=query.page_size,
        page=query.page,
        text_search=plain("textSearch", query.text_search) or None,
        sort_property=sort,
        descending=order == "DESC",
    )


def ids(label: str, value: str) -> Sequence[UUID]:
    """UUIDs with commas between them, each once. Raises InvalidRequest."""
    texts = [each.strip() for each in value.split(",") if each.strip()]
    if not 1 <= len(texts) <= MAX_IDS:
        raise InvalidRequest(f"{label} must be 1 to {MAX_IDS} UUIDs with commas between them")
    return tuple(dict.fromkeys(parse_uuid(each) for each in texts))
