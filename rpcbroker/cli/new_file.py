"""Files that commands write: whole, or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from rpcbroker.cli.stop import Stop


@contextmanager
def new_file(file: str, *, mode: int = 0o666) -> Iterator[IO[str]]:
    """Standard output; or a new file in the place of `file`, whole or not at all. Raises Stop.

    At no time can anybody read it whom `mode` does not allow to.
    """
    if file == "-":
        text = TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
        try:
            yield text
        finally:
            text.detach()
        return
    path = Path(file).resolve()
    try:
        if path.exists() and not path.is_file():  # a pipe, /dev/null: nothing that could be replaced
            with path.open("w", encoding="utf-8", newline="") as opened:
                yield opened
            return
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as opened:
                yield opened
                opened.flush()
                os.fchmod(descriptor, mode & ~_umask())
                os.fsync(descriptor)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise Stop(f"{file} cannot be written: {error.strerror}.") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
