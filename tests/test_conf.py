"""`conf/rpcbroker.toml` cannot go stale: it is the settings, no more and no less."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from rpcbroker import config
from rpcbroker.core.settings import Settings

FILE = Path(__file__).parent.parent / "conf" / "rpcbroker.toml"
SETTING = re.compile(r"#(\w+) = (.+)")


def described() -> list[config.Line]:
    return list(config.describe(config.load(None, {})))


def settings_in_file() -> list[tuple[str, str, str, str]]:
    """Section, key, value as written, and the comment above."""
    found = []
    section, comment = "", []
    for line in FILE.read_text().splitlines():
        if match := SETTING.fullmatch(line):
            found.append((section, match[1], match[2], " ".join(comment)))
        if line.startswith("# "):
            comment.append(line[2:].strip())
        else:
            comment = []
        if line.startswith("["):
            section = line.strip("[]")
    return found


def test_as_it_is_it_changes_nothing() -> None:
    configuration = config.load(str(FILE), {})
    assert configuration.settings == Settings()
    assert set(configuration.origins.values()) == {"default"}


def test_with_everything_uncommented_it_says_exactly_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(re.sub(r"^#(?=\w+ = )", "", FILE.read_text(), flags=re.MULTILINE))
    configuration = config.load(str(path), {})
    assert configuration.settings == Settings()
    assert set(configuration.origins.values()) == {"file"}


def test_every_setting_stands_there_once_in_order_with_its_unit() -> None:
    written = [(section, key, value) for section, key, value, _ in settings_in_file()]
    assert written == [(line.section, line.key, line.value) for line in described()]


def test_every_reason_stands_above_its_setting() -> None:
    for (section, key, _, comment), line in zip(settings_in_file(), described(), strict=True):
        why = line.why
        assert why, f"[{section}] {key} has no reason"
        assert comment == f"{why[0].upper()}{why[1:]}.", f"[{section}] {key}"


def test_there_is_nothing_else_but_comments_and_sections() -> None:
    assert list(tomllib.loads(FILE.read_text()).values()) == [{}] * len({line.section for line in described()})
    for line in FILE.read_text().splitlines():
        assert not line or line == "#" or line.startswith(("# ", "[")) or SETTING.fullmatch(line), line
