"""The broker with its rules in another way, for comparison only. BENCH_RULES says which:

* none: there are no rule chains, all goes straight, and devices' questions have the broker's own answers;
* chain: all passes the rule chains, also what the broker would do by itself in the same way.

Nothing else differs. No setting does this: rules that change nothing are to cost nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application.app import run
from twisted.scripts.twistd import ServerOptions, runApp

from rpcbroker.rules.chains import RuleChains
from rpcbroker.rules.system import RuleSystem


def without_rules(*_: object) -> None:
    """In the place of what mounts them."""


def through_chains(self: RuleChains, *args: Any, **more: Any) -> None:
    made_as_usual(self, *args, **more | {"direct": False})


made_as_usual = RuleChains.__init__


def main() -> None:
    if os.environ["BENCH_RULES"] == "none":
        RuleSystem.start = without_rules  # type: ignore[method-assign]
    else:
        RuleChains.__init__ = through_chains  # type: ignore[method-assign]
    sys.argv[0] = "twistd"
    run(runApp, ServerOptions)


if __name__ == "__main__":
    main()
