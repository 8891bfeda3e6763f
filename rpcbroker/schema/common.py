"""What all interfaces share: ids, texts, pages, the error object."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core.model import NULL_UUID, Page

T = TypeVar("T")

MAX_PAGE_SIZE = 1_000
MAX_TEXT = 255
TEXT_PATTERN = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
"""Not blank, and without U+0000, which a database cannot keep."""

Text = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_TEXT, "pattern": TEXT_PATTERN})]
"""A name or a title; checked by `api.checks.text`, which says what is wrong in plain words."""

PLAIN_PATTERN = r"^[^\u0000]*$"

Plain = Annotated[str, Meta(extra_json_schema={"pattern": PLAIN_PATTERN})]
"""Any text that a database can keep; checked by `api.checks.plain`."""

Line = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_TEXT, "pattern": PLAIN_PATTERN})]
"""A short text that may be empty; checked by `api.checks.plain`."""

UUID_PATTERN = r"[0-9a-fA-F]{1,8}(-[0-9a-fA-F]{1,4}){3}-[0-9a-fA-F]{1,12}"
"""Groups may be shorter than usual."""

MAX_INFO = 32 << 10

Info = Annotated[Any, Meta(description=f"any JSON of at most {MAX_INFO} bytes, for whoever wrote it")]
"""`additionalInfo`; checked by `api.checks.info`."""

EpochMs = Annotated[int, Meta(description="milliseconds since 1970-01-01 UTC", ge=0, le=2**53)]
Version = (
    Annotated[int, Meta(description="the version that a change is made from; another one is 409", ge=0, le=2**31 - 2)]
    | None
)


class EntityId(msgspec.Struct, rename="camel", frozen=True):
    """An id as the wire has it: never a bare UUID."""

    entity_type: Annotated[str, Meta(examples=["DEVICE"])]
    id: UUID


class Id(msgspec.Struct, frozen=True):
    """The id of something that is no entity."""

    id: UUID


def customer_ref(customer_id: UUID | None) -> EntityId:
    """The wire has a customer even where there is none."""
    return EntityId("CUSTOMER", customer_id or NULL_UUID)


class PartQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which part of a list."""

    page_size: Annotated[
        int, Meta(description="how many on a page", extra_json_schema={"minimum": 1, "maximum": MAX_PAGE_SIZE})
    ]
    page: Annotated[
        int, Meta(description="which page, from 0", extra_json_schema={"minimum": 0, "maximum": 2**31 - 1})
    ] = 0


class PageQuery(PartQuery, kw_only=True):
    """Which part of a list, in which order, and what must be in it."""

    text_search: (
        Annotated[Plain, Meta(description="only what contains this, in upper or lower case", max_length=MAX_TEXT)]
        | None
    ) = None
    sort_property: Annotated[str | None, Meta(description="a member of the items; createdTime if absent or empty")] = (
        None
    )
    sort_order: Annotated[
        str,
        Meta(
            description="ASC or DESC, in upper or lower case",
            extra_json_schema={"pattern": "^([aA][sS][cC]|[dD][eE][sS][cC])$"},
        ),
    ] = "ASC"


class PageJSON(msgspec.Struct, Generic[T], rename="camel"):
    """One part of a list, and how much there is in all."""

    data: list[T]
    total_pages: int
    total_elements: int
    has_next: bool


def page_json(page: Page[Any], items: list[T], query: PartQuery) -> PageJSON[T]:
    """`items` are those of `page`, as JSON."""
    pages = -(-page.total // query.page_size)
    return PageJSON(items, pages, page.total, query.page + 1 < pages)


class ErrorJSON(msgspec.Struct, rename="camel", omit_defaults=True):
    """What every failure is answered with."""

    status: Annotated[int, Meta(description="the HTTP status")]
    message: Annotated[str, Meta(description="a sentence for people")]
    error_code: Annotated[
        int,
        Meta(
            description="2 general, 10 not authenticated, 11 token expired, 20 permission denied, 31 bad request, "
            "32 not found, 33 too many requests, 35 conflict"
        ),
    ]
    timestamp: EpochMs
    reason: Annotated[str | None, Meta(description="a stable word for programs, such as NO_REPLY")] = None
    hint: Annotated[str | None, Meta(description="what to do about it")] = None
    response: Annotated[str | None, Meta(description="of a refused claim: FAILURE or CLAIMED")] = None


class Contact(msgspec.Struct, rename="camel", kw_only=True):
    """Where a tenant or a customer can be found; nothing of it means anything to the broker."""

    country: Line | None = None
    state: Line | None = None
    city: Line | None = None
    address: Line | None = None
    address2: Line | None = None
    zip: Line | None = None
    phone: Line | None = None
    email: Line | None = None
