"""Fetches the console's foreign modules from npm, as rpcbroker/console/vendor/versions.json pins them.

Run by `make vendor`. Again, it changes nothing. To take another version: put it there with the integrity that
`npm view NAME@VERSION dist.integrity` prints, and run it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parent.parent / "rpcbroker/console/vendor"
SOURCE_MAP = re.compile(r"\n?//# sourceMappingURL=\S+\s*\Z")
"""Maps are not vendored: a browser's tools would ask for them in vain."""


def fetched(name: str, pinned: dict[str, Any], directory: Path) -> tarfile.TarFile:
    """The package's archive, which must be the very one that is pinned."""
    command = ["npm", "pack", "--json", "--silent", f"{name}@{pinned['version']}"]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    (told,) = json.loads(done.stdout)
    if told["integrity"] != pinned["integrity"]:
        sys.exit(f"{name} {pinned['version']}: its integrity is {told['integrity']}, not what versions.json says")
    return tarfile.open(directory / told["filename"])


def text_of(archive: tarfile.TarFile, name: str) -> str:
    """A file of the package."""
    file = archive.extractfile(f"package/{name}")
    assert file is not None, name
    return file.read().decode()


def module(text: str, imports: dict[str, str]) -> str:
    """As it is served: what it imports by name is imported by path, for a browser knows no names."""
    for name, path in imports.items():
        text = re.sub(rf"""(from|import)(\s*)(["']){re.escape(name)}\3""", rf"\1\2\3{path}\3", text)
    return SOURCE_MAP.sub("\n", text)


def main() -> None:
    """Write all files anew."""
    pins = json.loads((VENDOR / "versions.json").read_text())
    licences = ["# Licences of what is vendored here\n"]
    with tempfile.TemporaryDirectory() as directory:
        for name, pinned in pins.items():
            with fetched(name, pinned, Path(directory)) as archive:
                for file, source in pinned["files"].items():
                    (VENDOR / file).write_text(module(text_of(archive, source), pinned.get("imports", {})))
                text = text_of(archive, "LICENSE").strip("\n")
                licences.append(f"## {name} {pinned['version']}: {pinned['license']}\n\n```\n{text}\n```\n")
    (VENDOR / "LICENSES.md").write_text("\n".join(licences))


if __name__ == "__main__":
    main()
