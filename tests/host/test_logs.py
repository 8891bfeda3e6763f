"""The log: by level, as text or as JSON, in a file that may be moved away."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from rpcbroker.core.settings import LogSettings
from rpcbroker.host import logs


class Log:
    """A log of its own, and what was written to it."""

    def __init__(self, form: Callable[[Any], logs.Write] = logs.text, **settings: Any) -> None:
        self.file = io.StringIO()
        self.logs = logs.Logs(LogSettings(**settings), form(self.file))
        self.log = Logger("rpcbroker.test", observer=LogPublisher(self.logs))

    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_what_is_below_the_level_is_left_out(level: Any) -> None:
    log = Log(level=level)
    names = ["debug", "info", "warn", "error", "critical"]
    for name in names:
        log.log.emit(LogLevel.levelWithName(name), "a line")
    seen = [re.search(r"#(\w+)\]", line) for line in log.lines()]
    assert [match and match[1] for match in seen] == names[names.index(level) :]


def test_another_level_holds_at_once() -> None:
    log = Log(level="error")
    log.log.info("one")
    log.logs.settings = LogSettings(level="info")
    log.log.info("two")
    assert [line.rsplit(" ", 1)[1] for line in log.lines()] == ["two"]


def test_repeats_are_counted_and_summed_up() -> None:
    log = Log(repeats=2)
    for number in range(5):
        log.log.critical("call {number} failed", number=number)
    log.logs.sum_up(0.0, of_all=True)
    assert [line.partition("] ")[2] for line in log.lines()] == [
        "call 0 failed",
        "call 1 failed",
        "... 3 more of these in 1 s: call {number} failed",
    ]


def test_as_text_an_event_is_one_line_and_a_failure_shows_its_traceback() -> None:
    log = Log()
    log.log.info("two\nlines of {name}", name="text")
    try:
        raise ValueError("why")
    except ValueError:
        log.log.failure("it failed")
    first, second, *rest = log.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[rpcbroker.test#info\] two", first)
    assert second == "\tlines of text"
    assert "it failed" in rest[0]
    assert "ValueError: why" in "".join(rest)


def test_as_json_an_event_is_one_object_with_the_plain_fields_of_its_template() -> None:
    line = logs.json_line(
        {
            "log_time": 1_700_000_000.1234,
            "log_level": LogLevel.warn,
            "log_namespace": "rpcbroker.test",
            "log_format": "{name} {count} {share} {odd} {open} {device} {level}\n",
            "name": 'a "name" \udcff',
            "count": 7,
            "share": 0.5,
            "odd": float("nan"),
            "open": True,
            "device": UUID(int=1),
            "level": "of the water",
            "secret": "not in the template",
        }
    )
    assert "\n" not in line
    said = json.loads(line)
    assert said.pop("message").startswith('a "name" \udcff 7 0.5 nan True 00000000-')
    assert said == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "warn",
        "logger": "rpcbroker.test",
        "name": 'a "name" \udcff',
        "count": 7,
        "share": 0.5,
        "open": True,
    }


def test_as_json_a_failure_is_a_string() -> None:
    log = Log(logs.json_lines)
    try:
        raise ValueError("why")
    except ValueError:
        log.log.failure("it failed")
    (said,) = log.objects()
    assert (said["level"], said["message"]) == ("critical", "it failed")
    assert said["traceback"].rstrip().endswith("ValueError: why")


@pytest.mark.parametrize("event", [{}, {"log_format": "{broken"}, {"log_format": None, "log_time": 5.0}])
def test_as_json_the_oddest_event_is_an_object(event: dict[str, Any]) -> None:
    assert set(json.loads(logs.json_line(event))) == {"time", "level", "logger", "message"}


def test_small_talk_of_twisted_is_for_debugging() -> None:
    log = Log(level="info")
    publisher = legacy.LogPublisher(publishPublisher=LogPublisher(log.logs))
    publisher.msg("Site starting on 8080")
    log.log.info("Timing out client: {peer}", peer="one")
    log.log.failure("while calling from thread", failure=Failure(ReactorNotRunning("a second SIGTERM")))
    assert log.lines() == []
    publisher.msg(failure=Failure(ValueError("why")), why="it failed", isError=1)
    assert "ValueError: why" in log.file.getvalue()
    log.logs.settings = LogSettings(level="debug")
    log.log.info("Timing out client: {peer}", peer="one")
    assert "Timing out client: one" in log.lines()[-1]


class TestFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Iterator[logs.File]:
        with closing(logs.File(str(tmp_path / "log"))) as file:
            yield file

    def test_it_goes_on_in_a_new_file_when_the_old_one_was_moved_away(self, tmp_path: Path, file: logs.File) -> None:
        file.write("one\n")
        (tmp_path / "log").rename(tmp_path / "moved")
        file.write("two\n")
        file.reopen()
        file.write("thr\udcffee\n")
        file.flush()
        assert (tmp_path / "moved").read_text() == "one\ntwo\n"
        assert (tmp_path / "log").read_text() == "thr\\udcffee\n"

    def test_it_goes_on_in_the_old_file_when_there_can_be_no_new_one(self, tmp_path: Path, file: logs.File) -> None:
        (tmp_path / "log").rename(tmp_path / "moved")
        (tmp_path / "log").mkdir()
        with pytest.raises(OSError, match="log"):
            file.reopen()
        file.write("on\n")
        assert (tmp_path / "moved").read_text() == "on\n"

    def test_it_is_kept_and_begun_anew_when_it_is_full_and_the_oldest_goes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "FILE_SIZE", 10)
        monkeypatch.setattr(logs, "OLD_FILES", 2)
        with closing(logs.File(str(tmp_path / "log"))) as file:
            for number in range(6):
                file.write(f"line number {number}\n")
        found = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert found == {"log": "line number 5\n", "log.1": "line number 4\n", "log.2": "line number 3\n"}

    def test_a_new_one_is_begun_when_asked_for(self, tmp_path: Path, file: logs.File) -> None:
        file.write("old\n")
        file.rotate()
        file.write("new\n")
        assert (tmp_path / "log.1").read_text() == "old\n"
        assert (tmp_path / "log").read_text() == "new\n"
