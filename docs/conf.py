"""How the manual is built: `make docs`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from rpcbroker import __version__, config

project = "rpcbroker"
version = release = __version__
copyright = "the rpcbroker maintainers"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"rpcbroker {__version__}"
html_copy_source = False
html_show_sphinx = False
suppress_warnings: list[str] = []


def configuration() -> str:
    """The page of all settings, made of the settings themselves."""
    lines = config.describe(config.load(None, {}))
    parts = [
        "# Configuration",
        "One TOML file (`--config FILE`), and the environment over it: `RPCBROKER_<SECTION>_<KEY>`. Without either it runs on "
        "these defaults. `rpcbroker config check FILE` tells whether a file is good, `rpcbroker config show` what holds and "
        "where it comes from, `rpcbroker doctor` whether it can work on this machine.",
        'Durations are `"500ms"`, `"10s"`, `"5m"`, `"2h"`, `"7d"`, sizes `"512B"`, `"64KiB"`, `"1MiB"`; bare numbers are seconds '
        'and bytes. Rates are `"200:1,6000:60"`: a count, a colon, seconds; all must allow.',
        "On SIGHUP the file and the environment are read again. Settings marked *live* then hold at once; of the others a line "
        "in the log says that they need a restart. A file with an error changes nothing.",
    ]
    for section, members in groupby(lines, key=lambda line: line.section):
        parts.append(f"## [{section}]")
        rows = ["| key | default | | what it is |", "|---|---|---|---|"]
        rows += [
            f"| `{line.key}` | `{line.value}` | {'live' if line.live else ''} | {line.why[0].upper()}{line.why[1:]} |"
            for line in members
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def setup(app: Any) -> None:
    """Sphinx calls this first."""
    Path(app.srcdir, "configuration.md").write_text(configuration())
