"""`device import`, `export` and the other commands for devices, against the real API in memory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fakes import result_of
from real_shell import RealShell

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.stop import Stop
from rpcbroker.core.model import Authority, Credentials, Device
from rpcbroker.core.near_misses import HINTS, NearMiss

HEADER = "name,type,label,customer,gateway,description,additionalInfo,token"


@pytest.fixture
def admin(real: RealShell) -> RealShell:
    """As the tenant's administrator; there is the customer Shop, and no device."""
    real.rest.add_customer("Shop")
    result_of(real.rest.store.delete_device(real.rest.device.id))
    return real.as_admin()


def outcomes(stdout: str) -> list[tuple[int, str, str]]:
    """Number, result, and the rest of each line."""
    words = [line.split(maxsplit=2) for line in stdout.splitlines()]
    return [(int(number), result, " ".join(rest)) for number, result, *rest in words]


def imported(shell: RealShell, text: str, *words: str) -> list[tuple[int, str, str]]:
    return outcomes(shell.run("device", "import", "-", *words, input=text).stdout)


def stored(shell: RealShell, name: str) -> tuple[Device, Credentials]:
    device = result_of(shell.rest.store.device_by_name(shell.rest.user.tenant_id, name))
    assert device is not None, name
    return device, result_of(shell.rest.store.credentials(device.id))


def shop(shell: RealShell) -> UUID:
    customer = result_of(shell.rest.store.people.customer_by_title(shell.rest.user.tenant_id, "Shop"))
    assert customer is not None
    return customer.id


def exported(shell: RealShell) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shell.says("device", "export", "--format", "json"))
    return found


# -- import


def test_a_file_may_be_imported_any_number_of_times(admin: RealShell) -> None:
    text = f'{HEADER}\nlamp,light,L,Shop,,,"{{""a"": 1}}",secret\ngw,,,,true,,,\n'
    assert imported(admin, text) == [(2, "created", "lamp"), (3, "created", "gw")]
    device, credentials = stored(admin, "lamp")
    assert (device.type, device.label, device.additional_info) == ("light", "L", {"a": 1})
    assert (device.customer_id, credentials.credentials_id) == (shop(admin), "secret")
    assert stored(admin, "gw")[0].additional_info == {"gateway": True}
    before = stored(admin, "lamp"), stored(admin, "gw")
    assert imported(admin, text) == [(2, "unchanged", "lamp"), (3, "unchanged", "gw")]
    assert (stored(admin, "lamp"), stored(admin, "gw")) == before
    assert imported(admin, text.replace(",secret", ",another").replace("true", "false")) == [
        (2, "changed", "lamp"),
        (3, "changed", "gw"),
    ]
    assert stored(admin, "lamp")[1].credentials_id == "another"


def test_what_is_not_said_stays(admin: RealShell) -> None:
    imported(admin, f"{HEADER}\nlamp,light,L,Shop,,old,,secret\n")
    before = stored(admin, "lamp")
    assert imported(admin, "name,type,label,customer,token\nlamp,,,,\n") == [(2, "unchanged", "lamp")]
    imported(admin, '[{"name": "lamp", "additionalInfo": {"floor": 3}}]', "--format", "json")
    assert imported(admin, "name;gateway;description\nlamp;true;new\n") == [(2, "changed", "lamp")]
    device, credentials = stored(admin, "lamp")
    assert device.additional_info == {"floor": 3, "gateway": True, "description": "new"}
    assert (device.type, device.label, device.customer_id, credentials) == (
        before[0].type,
        before[0].label,
        before[0].customer_id,
        before[1],
    )


def test_json_can_take_away_what_csv_can_only_leave(admin: RealShell) -> None:
    imported(admin, f"{HEADER}\nlamp,light,L,Shop,,old,,secret\n")
    text = '[{"name": "lamp", "label": "", "customerTitle": "", "additionalInfo": null}]'
    assert imported(admin, text, "--format", "json") == [(1, "changed", "lamp")]
    device, _ = stored(admin, "lamp")
    assert (device.label, device.customer_id, device.additional_info) == (None, None, None)


def test_bad_lines_are_told_and_the_rest_goes_on(admin: RealShell) -> None:
    text = f"{HEADER}\na,,,,,,,\n,,,,,,,\na,,,,,,,\nb,,,Nobody,,,,\nc,,,,maybe,,,\nd,,,,,,{{,\ne,,,,,,,a/b\nf,,,,,,,\n"
    result = admin.run("device", "import", "-", input=text)
    assert result.exit_code == 1
    assert [(number, word) for number, word, _ in outcomes(result.stdout)] == [
        (2, "created"),
        (3, "failed"),
        (4, "failed"),
        (5, "failed"),
        (6, "failed"),
        (7, "failed"),
        (8, "failed"),
        (9, "created"),
    ]
    whys = [rest for _, word, rest in outcomes(result.stdout) if word == "failed"]
    for why, says in zip(
        whys,
        (
            "it has no name",
            "'a' is on line 2 already",
            "b  Customer with title [Nobody] is not found.",
            "gateway must be true or false, and is 'maybe'",
            "additionalInfo is not JSON",
            "e  accessToken must be 1 to 32 characters",
        ),
        strict=True,
    ):
        assert says in why
    lines = result.stderr.splitlines()
    assert lines[0].startswith("2 created, 0 changed, 0 unchanged, 6 failed; ")
    assert lines[1:] == [
        "Error: 6 lines failed.",
        "Hint: Put them right, and run it again: what is done is not done twice.",
    ]


def test_a_bad_first_line_sends_nothing(admin: RealShell) -> None:
    result = admin.run("device", "import", "-", input="name,tokn\nlamp,secret\n")
    assert (result.exit_code, result.stdout, admin.requests) == (1, "", [])
    assert "Error: standard input: there is no column 'tokn'; did you mean token?\n" in result.stderr


def test_the_format_is_that_of_the_name_unless_it_is_said(admin: RealShell, tmp_path: Path) -> None:
    for name, words in (("f.JSON", ()), ("f.txt", ("--format", "json"))):
        (tmp_path / name).write_text('[{"name": "lamp"}]')
        assert admin.run("device", "import", str(tmp_path / name), *words).exit_code == 0


@pytest.mark.parametrize("name", ["nowhere.csv", ".", "\0"])
def test_a_file_that_cannot_be_read_is_a_sentence(admin: RealShell, tmp_path: Path, name: str) -> None:
    result = admin.run("device", "import", str(tmp_path / name))
    assert result.exit_code == 1
    assert "cannot be read: " in result.stderr


def test_a_dry_run_tells_the_same_and_does_nothing(admin: RealShell) -> None:
    basic = (
        '[{"name":"b","credentials":{"credentialsType":"MQTT_BASIC","credentialsValue":"{\\"userName\\":\\"u\\"}"}}]'
    )
    imported(admin, f"{HEADER}\nsame,light,L,Shop,true,d,,secret\nother,,,,,,,\n")
    imported(admin, basic, "--format", "json")
    before = {name: stored(admin, name) for name in ("same", "other", "b")}
    text = (
        f"{HEADER}\nsame,light,L,Shop,true,d,,secret\nother,heavy,,,,,,\nnew,,,,,,,\nlost,,,Nobody,,,,\nb,,,,,,,token\n"
    )
    said = imported(admin, text, "--dry-run")
    assert all(method == "GET" for method, _, _ in admin.requests)
    assert {name: stored(admin, name) for name in before} == before
    assert [(number, word) for number, word, _ in said] == [
        (2, "unchanged"),
        (3, "changed"),
        (4, "created"),
        (5, "failed"),
        (6, "changed"),
    ]
    assert imported(admin, text) == said
    assert imported(admin, basic, "--format", "json", "--dry-run") == [(1, "changed", "b")]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "x"},
        {"label": "x"},
        {"label": ""},
        {"customerTitle": ""},
        {"additionalInfo": None},
        {"credentials": {"credentialsId": "x"}},
        {"credentials": {"credentialsType": "MQTT_BASIC", "credentialsValue": '{"userName":"u"}'}},
        {"credentials": {}},
        {},
    ],
)
def test_a_dry_run_foresees_every_change(admin: RealShell, change: dict[str, Any]) -> None:
    imported(admin, f"{HEADER}\nlamp,light,L,Shop,true,,,secret\n")
    text = json.dumps([{"name": "lamp"} | change])
    assert imported(admin, text, "--format", "json", "--dry-run") == imported(admin, text, "--format", "json")


def test_when_the_broker_goes_away_the_import_ends_and_says_how_far_it_came(admin: RealShell) -> None:
    def gone(_method: str, path: str) -> Answer | None:
        if "deviceName=b" in path:
            raise Stop("http://broker.test cannot be reached: Connection was refused.")
        return None

    admin.before_request = gone
    result = admin.run("device", "import", "-", input="name\na\nb\nc\n")
    assert (result.exit_code, outcomes(result.stdout)) == (1, [(2, "created", "a")])
    assert result.stderr.splitlines()[1:] == [
        "Error: http://broker.test cannot be reached: Connection was refused.",
        "Hint: Run it again when that is put right: what is done is not done twice.",
    ]


def test_who_may_not_is_told_once(admin: RealShell) -> None:
    admin.rest.add_user("ada@shop.example", Authority.CUSTOMER_USER, customer=shop(admin))
    result = admin.as_(admin.user("ada@shop.example")).run("device", "import", "-", input="name\na\nb\n")
    assert (result.exit_code, result.stdout) == (3, "")


def test_an_old_token_is_renewed_once_for_all_that_are_on_their_way(admin: RealShell) -> None:
    admin.rest.clock.advance(3 * 3600)
    assert len(imported(admin, "name\n" + "".join(f"d{number}\n" for number in range(20)))) == 20
    assert [path for _, path, _ in admin.requests].count("/api/auth/token") == 1


# -- export


def test_what_is_exported_can_be_imported_elsewhere(admin: RealShell, tmp_path: Path) -> None:
    rows = [
        'lamp,light,"=HYPERLINK(""x"")",Shop,true,"two\nlines","{""a"": [1, ""ä""]}",secret',
        "'=a,@type,-1,,,,7,=token",
        "plain,,,,,,,",
    ]
    assert len(imported(admin, "\n".join([HEADER, *rows, ""]))) == 3
    imported(
        admin,
        '[{"name":"basic","credentials":{"credentialsType":"MQTT_BASIC","credentialsValue":"{\\"clientId\\":\\"c\\"}"}}]',
        "--format",
        "json",
    )
    for file in ("fleet.csv", "fleet.json"):
        path = tmp_path / file
        admin.says("device", "export", str(path), "--with-credentials")
        before = {name: stored(admin, name) for name in ("lamp", "=a", "plain", "basic")}
        assert {word for _, word, _ in outcomes(admin.says("device", "import", str(path)))} == {"unchanged"}
        for device, _ in before.values():
            result_of(admin.rest.store.delete_device(device.id))
        assert {word for _, word, _ in outcomes(admin.says("device", "import", str(path)))} == {"created"}
        for name, (device, credentials) in before.items():
            again, its_credentials = stored(admin, name)
            assert (again.type, again.label, again.additional_info, again.customer_id) == (
                device.type,
                device.label,
                device.additional_info,
                device.customer_id,
            )
            assert (its_credentials.type, its_credentials.credentials_id, its_credentials.credentials_value) == (
                credentials.type,
                credentials.credentials_id,
                credentials.credentials_value,
            )


def test_no_cell_of_an_export_is_a_formula(admin: RealShell) -> None:
    imported(admin, "name,label\n=1+1,@x\n")
    assert admin.says("device", "export").splitlines()[1] == "'=1+1,default,'@x,,,,"


def test_without_being_asked_for_no_secret_is_read_or_written(admin: RealShell) -> None:
    imported(admin, "name,token\nlamp,my-secret\n")
    assert "my-secret" not in admin.says("device", "export")
    assert "my-secret" not in admin.says("device", "export", "--format", "json")
    assert not [path for _, path, _ in admin.requests if "credentials" in path]


def test_secrets_go_to_a_file_that_only_its_owner_can_read(admin: RealShell, tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.touch(0o644)
    mask = os.umask(0)
    try:
        admin.says("device", "export", str(path), "--with-credentials")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        admin.says("device", "export", str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    finally:
        os.umask(mask)
    assert admin.run("device", "export", "--with-credentials").exit_code == 2


def test_an_export_that_fails_leaves_the_file_as_it_was(admin: RealShell, tmp_path: Path) -> None:
    imported(admin, "name\nlamp\n")
    path = tmp_path / "fleet.csv"
    path.write_text("as it was")
    admin.before_request = lambda _method, path: Answer(500, {}, b"") if "credentials" in path else None
    assert admin.run("device", "export", str(path), "--with-credentials").exit_code == 1
    assert path.read_text() == "as it was"
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["fleet.csv"]


def test_a_file_that_cannot_be_written_is_a_sentence(admin: RealShell, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "fleet.csv"):
        result = admin.run("device", "export", str(path))
        assert result.exit_code == 1
        assert "cannot be written: " in result.stderr


def test_what_is_no_file_is_written_to_and_not_replaced(admin: RealShell) -> None:
    admin.says("device", "export", "/dev/null")
    assert not Path("/dev/null").is_file()


# -- the other commands


def test_a_device_is_shown_with_its_presence(admin: RealShell) -> None:
    imported(admin, f"{HEADER}\nlamp,light,L,Shop,true,,,secret\n")
    shown = admin.says("device", "show", "lamp")
    lines = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in shown.splitlines()}
    assert (lines["Name"], lines["Customer"], lines["Info"]) == ("lamp", "Shop", '{"gateway":true}')
    assert (lines["Callable"], lines["Last seen (UTC)"]) == ("no", "-")
    both = json.loads(admin.says("device", "show", str(stored(admin, "lamp")[0].id), "--json"))
    assert (both["device"]["name"], both["presence"]["callable"]["value"]) == ("lamp", False)
    assert admin.run("device", "show", "nothing").exit_code == 4


def test_a_device_is_shown_with_what_it_nearly_got_right(admin: RealShell) -> None:
    imported(admin, "name\nlamp\n")
    for detail in ("has subscribed to '/x'", "has subscribed to '/y'"):
        admin.rest.session(stored(admin, "lamp")[0]).note(NearMiss.LEADING_SLASH, detail)
    shown = admin.says("device", "show", "lamp")
    assert "Missed 1         It has subscribed to '/y' (2 times, last 20" in shown
    assert HINTS[NearMiss.LEADING_SLASH] in shown


def test_what_would_move_the_cursor_is_not_printed(admin: RealShell) -> None:
    imported(admin, '[{"name": "\\u001b[31mred\\n"}]', "--format", "json")
    for words in (("device", "list"), ("device", "show", "\x1b[31mred")):
        assert "\x1b" not in admin.says(*words)
        assert "?[31mred" in admin.says(*words)


def test_a_device_is_assigned_unassigned_and_deleted(admin: RealShell) -> None:
    imported(admin, "name\nlamp\n")
    admin.says("device", "assign", "lamp", "Shop")
    assert exported(admin)[0]["customerTitle"] == "Shop"
    admin.says("device", "unassign", "lamp")
    assert exported(admin)[0]["customerTitle"] == ""
    assert admin.run("device", "unassign", "lamp").exit_code == 1
    assert admin.run("device", "assign", "lamp", "Nobody").exit_code == 4
    admin.says("device", "delete", "lamp", "--yes")
    assert exported(admin) == []
    assert admin.run("device", "delete", "lamp", "--yes").exit_code == 4


@pytest.mark.parametrize("name", ["lamp", "Ähre"])
def test_a_customers_user_finds_its_devices_by_name_and_no_others(admin: RealShell, name: str) -> None:
    imported(admin, f"name,customer\n{name},Shop\nx{name},Shop\nother,\n")
    admin.rest.add_user("ada@shop.example", Authority.CUSTOMER_USER, customer=shop(admin))
    admin.as_(admin.user("ada@shop.example"))
    assert f"Name             {name}\n" in admin.says("device", "show", name)
    assert admin.run("device", "show", "other").exit_code == 4
    assert admin.run("call", name, "x", "--connect-timeout", "0").exit_code == 5
