"""How the manual is built: `make docs`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from rpcbroker import __version__, config

project = "rpcbroker"
version = release = __version__
project_copyright = "the rpcbroker maintainers"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "_settings.md"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"rpcbroker {__version__}"
html_copy_source = False
html_show_sphinx = False


def settings() -> str:
    """All settings as tables, made of the settings themselves."""
    lines = config.describe(config.load(None, {}))
    parts = []
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
    Path(app.srcdir, "_settings.md").write_text(settings())
