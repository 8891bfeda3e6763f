"""Fleets as CSV (RFC 4180, UTF-8): a line of columns' names, then a line a device.

An empty cell says nothing, as if its column were not there: what the device has stays.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import IO, Any

import msgspec

from rpcbroker.cli.fleet.entries import Entry, Line, StrictCredentials
from rpcbroker.core import jsontext
from rpcbroker.core.model import CredentialsType

PLAIN = ("name", "type", "label", "customer", "gateway", "description", "additionalInfo")
SECRET = ("token", "credentialsType", "credentialsValue")
COLUMNS = PLAIN + SECRET
_SEPARATORS = ",;\t"
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How a cell begins that a spreadsheet may take for a formula, or that was kept from it."""
_BOOLEANS = {"true": True, "false": False}


class BadHeader(ValueError):
    """The columns are not those of a fleet: nothing of the file can be used."""


def read_csv(file: IO[str]) -> Iterator[Line]:
    """The lines below the columns' names, one by one. Raises BadHeader.

    `file` is opened with `newline=""` and decoded with `surrogateescape`. Memory holds one record at a time.
    """
    header = file.readline()
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.reader(chain([header], file), delimiter=separator, strict=True)
    try:
        columns = _columns(next(reader, []))
    except csv.Error as error:
        raise BadHeader(f"the first line is not CSV: {error}") from None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(number=number, error=f"not CSV: {error}")
            continue
        if cells:
            yield _line(number, columns, cells)


class CsvFile:
    """Writes the columns' names, then a line for each entry."""

    def __init__(self, file: IO[str], *, secrets: bool) -> None:
        """`file` is opened with `newline=""`. `secrets`: also what the devices prove themselves with."""
        self._columns = COLUMNS if secrets else PLAIN
        self._writer = csv.writer(file, lineterminator="\r\n")
        self._begun = False

    def write(self, entry: Entry) -> None:
        """One more."""
        self._begin()
        cells = _cells(entry)
        self._writer.writerow([safe(cells.get(column, "")) for column in self._columns])

    def end(self) -> None:
        """There are no more."""
        self._begin()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._writer.writerow(self._columns)


def safe(cell: str) -> str:
    """The cell, so that no spreadsheet runs it; `plain` is the way back."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def plain(cell: str) -> str:
    """What `safe` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _columns(names: list[str]) -> tuple[str, ...]:
    known = {column.lower(): column for column in COLUMNS}
    found = []
    for name in names:
        column = known.get(name.strip().lower())
        if column is None:
            near = difflib.get_close_matches(name.strip(), COLUMNS, 1)
            more = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)}"
            raise BadHeader(f"there is no column {name!r}; {more}")
        if column in found:
            raise BadHeader(f"the column {column} is there twice")
        found.append(column)
    if "name" not in found:
        raise BadHeader(f"the first line must name the columns, name among them; there are {', '.join(COLUMNS)}")
    return tuple(found)


def _line(number: int, columns: tuple[str, ...], cells: list[str]) -> Line:
    try:
        if any(cells[len(columns) :]):
            raise ValueError(f"it has {len(cells)} cells, and there are {len(columns)} columns")
        "".join(cells).encode()
        given = {column: plain(cell) for column, cell in zip(columns, cells, strict=False) if cell}
        return _merged(Line(number=number, entry=_entry(given), info=_info(given)))
    except UnicodeEncodeError:
        return Line(number=number, error="it is not UTF-8")
    except ValueError as error:
        return Line(number=number, error=str(error))


def _merged(line: Line) -> Line:
    """With all of additionalInfo in the entry, if its own column gives it as a whole. Raises ValueError."""
    entry = line.entry
    if entry is None or entry.additional_info is msgspec.UNSET or not line.info:
        return line
    if not isinstance(entry.additional_info, dict):
        raise ValueError("additionalInfo is no object, so there is no place in it for gateway and description")
    entry.additional_info |= line.info
    return replace(line, info={})


def _entry(given: Mapping[str, str]) -> Entry:
    """Raises ValueError."""
    members: dict[str, Any] = {}
    if "additionalInfo" in given:
        try:
            members["additional_info"] = jsontext.decode(given["additionalInfo"].encode())
        except jsontext.BadJSON as error:
            raise ValueError(f"additionalInfo is {error}") from None
    return Entry(
        name=given.get("name", ""),
        type=given.get("type"),
        label=given.get("label"),
        customer_title=given.get("customer"),
        credentials=_credentials(given),
        **members,
    )


def _info(given: Mapping[str, str]) -> dict[str, Any]:
    """Raises ValueError."""
    info: dict[str, Any] = {}
    if "gateway" in given:
        gateway = _BOOLEANS.get(given["gateway"].strip().lower())
        if gateway is None:
            raise ValueError(f"gateway must be true or false, and is {given['gateway']!r}")
        info["gateway"] = gateway
    if "description" in given:
        info["description"] = given["description"]
    return info


def _credentials(given: Mapping[str, str]) -> StrictCredentials | None:
    """Raises ValueError."""
    if not any(column in given for column in SECRET):
        return None
    text = given.get("credentialsType", CredentialsType.ACCESS_TOKEN.value).strip().upper()
    if text not in CredentialsType.__members__:
        raise ValueError(f"credentialsType must be one of {', '.join(CredentialsType)}, and is {text!r}")
    if ("token" if text != CredentialsType.ACCESS_TOKEN else "credentialsValue") in given:
        raise ValueError("a token belongs to the credentialsType ACCESS_TOKEN, a credentialsValue to the others")
    return StrictCredentials(
        credentials_type=CredentialsType(text),
        credentials_id=given.get("token"),
        credentials_value=given.get("credentialsValue"),
    )


def _cells(entry: Entry) -> dict[str, str]:
    """What `_entry` and `_info` read as the same device."""
    info, cells = entry.additional_info, {}
    if isinstance(info, dict):
        rest = dict(info)
        if isinstance(info.get("gateway"), bool):
            cells["gateway"] = "true" if rest.pop("gateway") else "false"
        if isinstance(info.get("description"), str) and info["description"]:
            cells["description"] = rest.pop("description")
        info = rest or (None if cells else rest)
    if info is not None and info is not msgspec.UNSET:
        cells["additionalInfo"] = msgspec.json.encode(info).decode()
    if entry.credentials is not None:
        cells |= {
            "token": entry.credentials.credentials_id or "",
            "credentialsType": entry.credentials.credentials_type.value,
            "credentialsValue": entry.credentials.credentials_value or "",
        }
    return cells | {
        "name": entry.name,
        "type": entry.type or "",
        "label": entry.label or "",
        "customer": entry.customer_title or "",
    }
