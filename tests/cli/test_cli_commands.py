"""The commands as people use them: what they print, where, and with which exit code they end."""

from __future__ import annotations

import importlib
import json
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_broker import URL, Shell, error, json_answer

from rpcbroker import __version__
from rpcbroker.cli import main
from rpcbroker.cli.answers import Answer
from rpcbroker.cli.stop import ExitCode

# -- the program as a whole


def test_help_names_every_command_and_every_exit_code(shell: Shell) -> None:
    output = shell.run("--help").stdout
    for name, (_, text) in main.COMMANDS.items():
        assert f"  {name} " in output
        assert text in output
    for code in ExitCode:
        assert f"\n    {code.value}  " in output


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_table_of_commands_says_what_the_commands_say(name: str) -> None:
    module, text = main.COMMANDS[name]
    command = getattr(importlib.import_module(module), name)
    assert command.name == name
    assert (command.help or "").strip().split("\n")[0] == text


def test_help_imports_neither_twisted_nor_treq() -> None:
    program = (
        "import sys\n"
        "from rpcbroker.cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'twisted', 'treq', 'rich', 'asyncio'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_version(shell: Shell) -> None:
    assert shell.run("--version").stdout == f"rpcbroker {__version__}\n"


def test_an_unknown_command_is_a_usage_error_that_lists_the_known_ones(shell: Shell) -> None:
    result = shell.run("cal")
    assert result.exit_code == 2
    assert "There is no command 'cal'; there are demo, login" in result.stderr


def test_a_fault_of_ours_is_a_sentence_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(main.cli, "main", broken)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("Error: rpcbroker has a fault: RuntimeError: boom\n")


# -- login


def test_login_keeps_url_and_tokens_for_the_owners_eyes_only(shell: Shell) -> None:
    result = shell.run("login", URL + "/", "--username", "me", "--password-stdin", input="secret\r\n")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == f"Logged in to {URL} as me.\n"
    assert shell.kept() == {"url": URL, "username": "me", "token": "access1", "refresh_token": "refresh1"}
    assert stat.S_IMODE(shell.login_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(shell.login_file.parent.stat().st_mode) == 0o700
    assert [path.name for path in shell.login_file.parent.iterdir()] == ["login.json"]
    assert shell.broker.requests == [("POST", "/api/auth/login", {"username": "me", "password": "secret"})]


def test_login_asks_for_what_it_is_not_told_and_does_not_show_the_password(shell: Shell) -> None:
    result = shell.run("login", "localhost:8080", input="me\nsecret\n")
    assert result.exit_code == 0
    assert shell.kept()["username"] == "me"
    assert "secret" not in result.output


def test_login_takes_the_url_from_the_environment(shell: Shell) -> None:
    result = shell.run("login", "-u", "me", "--password-stdin", input="secret", env={"RPCBROKER_URL": URL})
    assert result.exit_code == 0
    assert shell.kept()["url"] == URL


def test_a_refused_login_is_exit_code_3_and_leaves_the_old_one(shell: Shell) -> None:
    shell.log_in()
    before = shell.kept()
    result = shell.run("login", URL, "-u", "me", "--password-stdin", input="wrong")
    assert result.exit_code == 3
    assert result.stderr == "Error: Invalid username or password.\n"
    assert shell.kept() == before


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://me:pw@x", "http://x:99999", "http://x?a=b", "http://[::1"]
)
def test_what_is_no_url_of_a_broker_is_a_usage_error(shell: Shell, url: str) -> None:
    result = shell.run("login", url, "-u", "me", "--password-stdin", input="secret")
    assert result.exit_code == 2
    assert "is not the URL of a broker" in result.stderr


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://example.org", True),
        ("https://example.org", False),
        ("http://[::1]:80", False),
        ("http://127.1.2.3", False),
    ],
)
def test_a_password_in_the_clear_is_warned_of(shell: Shell, url: str, *, warned: bool) -> None:
    shell.broker.url = url
    result = shell.run("login", url, "-u", "me", "--password-stdin", input="secret")
    assert result.exit_code == 0
    assert ("Warning: without https" in result.stderr) is warned


@pytest.mark.parametrize("command", [("token",), ("device", "list"), ("call", "lamp", "x"), ("device", "add", "x")])
def test_without_a_login_the_exit_code_is_3(shell: Shell, command: tuple[str, ...]) -> None:
    result = shell.run(*command)
    assert result.exit_code == 3
    assert result.stderr == "Error: You are not logged in to a broker.\nHint: Run: rpcbroker login URL\n"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"url": 1}', '{"url":"x","username":"x","token":1,"refresh_token":"x"}']
)
def test_a_damaged_login_file_is_said_to_be_damaged(shell: Shell, text: str) -> None:
    shell.log_in()
    shell.login_file.write_text(text)
    result = shell.run("token")
    assert result.exit_code == 3
    assert "login.json is damaged." in result.stderr


def test_a_login_that_cannot_be_kept_is_an_error(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "xdg").write_text("a file, where a directory should be")
    result = shell.run("login", URL, "-u", "me", "--password-stdin", input="secret")
    assert result.exit_code == 1
    assert "The login cannot be kept in" in result.stderr


# -- tokens


def test_token_prints_one_that_is_good(shell: Shell) -> None:
    shell.log_in()
    assert shell.run("token").stdout == "access1\n"


def test_an_expired_token_is_renewed_and_kept(shell: Shell) -> None:
    shell.log_in()
    shell.broker.good_tokens.clear()
    result = shell.run("token")
    assert (result.exit_code, result.stdout) == (0, "access2\n")
    assert shell.kept()["token"] == "access2"
    assert shell.kept()["refresh_token"] == "refresh2"
    assert [path for _, path, _ in shell.broker.requests] == ["/api/auth/user", "/api/auth/token", "/api/auth/user"]


def test_a_command_goes_on_after_its_token_was_renewed(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    shell.broker.good_tokens.clear()
    shell.broker.on_call = lambda _path, _body: json_answer(200, {"ok": True})
    assert shell.run("call", "lamp", "x").stdout == '{"ok":true}\n'


def test_when_the_refresh_token_has_expired_too_the_exit_code_is_3(shell: Shell) -> None:
    shell.log_in()
    shell.broker.good_tokens.clear()
    shell.broker.good_refresh_tokens.clear()
    result = shell.run("device", "list")
    assert result.exit_code == 3
    assert result.stderr == f"Error: Your login has ended.\nHint: Run: rpcbroker login {URL}\n"


def test_an_answer_that_does_not_fit_the_schema_is_a_sentence(shell: Shell) -> None:
    shell.log_in()
    device_id = shell.broker.add("lamp")
    shell.broker.on_call = lambda _path, _body: json_answer(200, {"id": {"id": device_id}, "name": "lamp"})
    result = shell.run("device", "show", "lamp")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: The server's answer cannot be understood: Object missing required field")
    assert f"Hint: Is this the URL of a broker? Its version should be {__version__}" in result.stderr


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_a_sentence(shell: Shell, body: bytes) -> None:
    shell.log_in()
    device_id = shell.broker.add("lamp")
    shell.broker.on_call = lambda _path, _body: Answer(200, {}, body)
    result = shell.run("device", "show", device_id)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The server's answer cannot be understood: ")


@pytest.mark.parametrize(
    "words", [("call", "\udcff", "x"), ("call", "lamp", "\udcff"), ("call", "lamp", "x", "a=\udcff")]
)
def test_what_is_not_utf_8_is_a_usage_error(shell: Shell, words: tuple[str, ...]) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    result = shell.run(*words)
    assert (result.exit_code, result.stderr) == (2, "Error: What you typed is not UTF-8.\n")


# -- devices


def test_device_add_prints_the_token_alone_on_stdout(shell: Shell) -> None:
    shell.log_in()
    result = shell.run("device", "add", "my lamp", "--type", "lamp")
    assert (result.exit_code, result.stdout) == (0, "MADEUP\n")
    sent = next(body for method, path, body in shell.broker.requests if (method, path) == ("POST", "/api/device"))
    assert (sent["name"], sent["type"]) == ("my lamp", "lamp")


def test_device_add_hands_a_given_token_over(shell: Shell) -> None:
    shell.log_in()
    assert shell.run("device", "add", "lamp", "--token", "my token&x=y").stdout == "my token&x=y\n"


def test_device_add_prints_lines_that_a_shell_takes(shell: Shell) -> None:
    shell.log_in()
    output = shell.run("device", "add", "it's", "--token", "a'b", "--mqtt", "[::1]:2883").stderr
    subscribe = next(line for line in output.splitlines() if line.startswith("mosquitto_sub"))
    assert shlex.split(subscribe)[1:7] == ["-h", "::1", "-p", "2883", "-u", "a'b"]
    assert shlex.split(subscribe)[-1] == "v1/devices/me/rpc/request/+"
    curl = shlex.split(next(line for line in output.splitlines() if line.startswith("curl") and "twoway" in line))
    device_id = shell.broker.devices["it's"].id.id
    assert f"{URL}/api/rpc/twoway/{device_id}" in curl
    assert json.loads(curl[-1])["method"] == "echo"
    call = shlex.split(next(line for line in output.splitlines() if "rpcbroker call " in line))
    assert call[-4:] == ["call", "it's", "echo", "hello=device"]
    program = output.partition("python3 - <<'EOF'\n")[2].partition("\nEOF\n")[0]
    compile(program, "snippet", "exec")
    assert 'client.username_pw_set("a\'b")' in program
    assert 'client.connect("::1", 2883)' in program


def test_a_name_that_is_taken_is_an_error(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    result = shell.run("device", "add", "lamp")
    assert (result.exit_code, result.stderr) == (1, "Error: Device with such name already exists!\n")


def test_device_list_is_a_table(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("zebra")
    device_id = shell.broker.add("[bold]lamp", type_="lamp")
    lines = shell.run("device", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "CUSTOMER", "CONNECTED", "ID", "ADDED", "(UTC)"]
    assert lines[1].split() == ["[bold]lamp", "lamp", "-", "no", device_id, "2023-11-14", "22:13"]
    assert lines[2].split()[0] == "zebra"


def test_device_list_json_has_all_pages(shell: Shell) -> None:
    shell.log_in()
    for number in range(2300):
        shell.broker.add(f"device-{number:04}")
    listed = json.loads(shell.run("device", "list", "--json").stdout)
    assert [device["name"] for device in listed] == [f"device-{number:04}" for number in range(2300)]


def test_no_devices_is_a_sentence_and_still_json(shell: Shell) -> None:
    shell.log_in()
    result = shell.run("device", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "There are no devices yet" in result.stderr
    assert json.loads(shell.run("device", "list", "--json").stdout) == []


# -- call


def test_call_by_name_sends_params_and_prints_the_reply_as_it_came(shell: Shell) -> None:
    shell.log_in()
    device_id = shell.broker.add("lamp")
    shell.broker.on_call = lambda _path, _body: Answer(200, {}, b'{"7":true, "big":12345678901234567890}')
    result = shell.run("call", "lamp", "setGpioStatus", "pin=7", "enabled=true", "note=hello world")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == '{"7":true, "big":12345678901234567890}\n'
    assert shell.broker.requests[-1] == (
        "POST",
        f"/api/plugins/rpc/twoway/{device_id}",
        {"method": "setGpioStatus", "params": {"pin": 7, "enabled": True, "note": "hello world"}},
    )


def test_call_by_id_asks_for_no_name(shell: Shell) -> None:
    shell.log_in()
    device_id = shell.broker.add("lamp")
    shell.run("call", device_id, "x")
    assert [path for _, path, _ in shell.broker.requests] == [f"/api/plugins/rpc/twoway/{device_id}"]


def test_timeouts_are_sent_in_milliseconds(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    shell.run("call", "lamp", "x", "--timeout", "1.5s", "--connect-timeout", "0")
    assert shell.broker.requests[-1][2] == {"method": "x", "timeout": 1500, "connectTimeout": 0}


def test_a_negative_number_is_params_and_no_option(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    assert shell.run("call", "lamp", "setValue", "-5").exit_code == 0
    assert shell.broker.requests[-1][2]["params"] == -5


def test_a_one_way_call_says_that_it_was_sent(shell: Shell) -> None:
    shell.log_in()
    device_id = shell.broker.add("lamp")
    result = shell.run("call", "lamp", "x", "--oneway")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Sent.\n")
    assert shell.broker.requests[-1][1] == f"/api/plugins/rpc/oneway/{device_id}"


def test_an_empty_reply_is_said_to_be_empty(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    result = shell.run("call", "lamp", "x")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "The device sent an empty reply.\n")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error(409, 2, "m", reason="NO_SUBSCRIPTION"), 5),
        (error(409, 2, "m", reason="NEVER_CONNECTED"), 5),
        (error(504, 2, "m", reason="DISCONNECTED"), 5),
        (Answer(409, {}, b""), 5),
        (error(408, 2, "m", reason="NO_REPLY"), 6),
        (error(504, 2, "m", reason="NO_ACK"), 6),
        (error(408, 2, "m", reason="EXPIRED"), 6),
        (Answer(408, {}, b""), 6),
        (error(409, 35, "m"), 1),
        (error(404, 32, "m"), 4),
        (Answer(404, {}, b"<html>"), 1),
        (error(403, 20, "m"), 3),
        (error(429, 33, "m", reason="QUEUE_FULL"), 1),
        (error(406, 31, "m", reason="BAD_REPLY"), 1),
        (error(500, 2, "m"), 1),
        (Answer(302, {}, b""), 1),
    ],
)
def test_exit_codes_of_calls(shell: Shell, answer: Answer, code: int) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    shell.broker.on_call = lambda _path, _body: answer
    result = shell.run("call", "lamp", "x")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")


def test_reason_and_hint_are_told(shell: Shell) -> None:
    shell.log_in()
    shell.broker.add("lamp")
    shell.broker.on_call = lambda _path, _body: error(
        409, 2, "The device is offline", reason="NO_SUBSCRIPTION", hint="It has not subscribed."
    )
    assert shell.run("call", "lamp", "x").stderr == (
        "Error: The device is offline.\nReason: NO_SUBSCRIPTION\nHint: It has not subscribed.\n"
    )


def test_an_unknown_name_is_exit_code_4(shell: Shell) -> None:
    shell.log_in()
    result = shell.run("call", "lamp", "x")
    assert result.exit_code == 4
    assert result.stderr.startswith("Error: There is no device named 'lamp'.\nHint: ")


@pytest.mark.parametrize("words", [("bare",), ("a=1", "b"), ("a=1", "a=2"), ("=1",), ('{"a":', "1}"), ("--tiemout=1",)])
def test_bad_params_are_a_usage_error_and_nothing_is_sent(shell: Shell, words: tuple[str, ...]) -> None:
    shell.log_in()
    result = shell.run("call", "lamp", "x", *words)
    assert (result.exit_code, shell.broker.requests) == (2, [])


# -- config


def test_config_check_of_a_good_file(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text('[rpc]\nmin_timeout = "1s"\n')
    result = shell.run("config", "check", str(path), env={"RPCBROKER_RPC_MIN_TIMEOUT": "not looked at"})
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{path} is good.\n", "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[rpc]\nmin_timeout = 'x'", 'Error: [rpc] min_timeout: "x" is not allowed'),
        ("[", "is not TOML"),
        ("[mqtt]\nlisten = 'ssl:8883:privateKey=/nowhere.pem'", "Error: [mqtt] listen: 'ssl:8883"),
        (
            "[http]\nlisten = 'ssl:8443:privatKey=k.pem'",
            "'privatKey=k.pem' is not understood; there are port, privateKey",
        ),
        ("[http]\nlisten = 'systemd:domain=UNIX:index=0'", "its domain must be INET or INET6"),
        ("[coap]\nlisten = 'tcp:5683'", "Error: [coap] listen: 'tcp:5683' is no endpoint: it must begin with udp:"),
        ("[coap]\ndtls_listen = 'dtls:5684:privateKey=/nowhere.pem'", "Error: [coap] dtls_listen: 'dtls:5684"),
        ("[http]\nlisten = 'carrier-pigeon:1'", "Error: [http] listen: 'carrier-pigeon:1' is no endpoint"),
    ],
)
def test_config_check_of_a_bad_file(shell: Shell, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    result = shell.run("config", "check", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr


def test_config_show_has_each_value_with_its_origin(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "rpcbroker.toml"
    path.write_text("[mqtt]\nmax_packet_size = 1024\n")
    environ = {"RPCBROKER_RPC_MIN_TIMEOUT": "2", "RPCBROKER_RPC_MIN_TIMOUT": "3"}
    result = shell.run("config", "show", "--config", str(path), env=environ)
    assert result.exit_code == 0
    lines = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert 'max_packet_size = "1KiB" # file' in lines
    assert 'min_timeout = "2s" # RPCBROKER_RPC_MIN_TIMEOUT' in lines
    assert 'max_timeout = "1d" # default' in lines
    assert "[store]" in lines
    assert result.stderr.startswith("Warning: The environment variable RPCBROKER_RPC_MIN_TIMOUT sets nothing; did you")


def test_what_config_show_prints_is_a_good_file(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(shell.run("config", "show").stdout)
    assert shell.run("config", "check", str(path)).exit_code == 0
