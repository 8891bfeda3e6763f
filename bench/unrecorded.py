"""The broker without time lines, for comparison only: a call's moments are not noted, its record is not kept.

Nothing else differs. A setting for this does not exist, for what a cancelled call was told depends on its time line.
"""

from __future__ import annotations

import sys

from twisted.application.app import run
from twisted.scripts.twistd import ServerOptions, runApp

from rpcbroker.core.records import CallRecord, Recorder


def nothing(*_: object) -> None:
    """In the place of what records."""


def main() -> None:
    CallRecord.note = nothing  # type: ignore[method-assign]
    CallRecord.end = nothing  # type: ignore[method-assign]
    Recorder.add = nothing  # type: ignore[method-assign]
    sys.argv[0] = "twistd"
    run(runApp, ServerOptions)


if __name__ == "__main__":
    main()
