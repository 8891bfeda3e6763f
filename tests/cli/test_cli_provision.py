"""Provision keys on the command line: a device comes in by what was printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import device, result_of
from real_shell import RealShell


@pytest.fixture
def admin(real: RealShell) -> RealShell:
    return real.as_admin()


def provision(shell: RealShell, key: str, secret: str, **more: Any) -> dict[str, Any]:
    request = {"provisionDeviceKey": key, "provisionDeviceSecret": secret, **more}
    answer: dict[str, Any] = json.loads(result_of(shell.rest.rest.provisioning.provision(json.dumps(request).encode())))
    return answer


def test_key_and_secret_are_on_stdout_and_a_device_comes_in_by_them(admin: RealShell) -> None:
    customer = admin.rest.add_customer("Shop")
    result = admin.run("provision", "add", "--type", "pump", "--customer", "Shop")
    key, secret = result.stdout.split()
    assert "new devices of type pump" in result.stderr
    assert secret not in result.stderr
    assert provision(admin, key, secret, deviceName="p1")["status"] == "SUCCESS"
    made = result_of(admin.rest.store.device_by_name(admin.rest.user.tenant_id, "p1"))
    assert (made.type, made.customer_id) == ("pump", customer.id)
    (listed,) = json.loads(admin.says("provision", "list", "--json"))
    assert (listed["provisionDeviceKey"], listed["uses"]) == (key, 1)
    assert "provisionDeviceSecret" not in listed
    assert f"{key}  new devices of type pump  good   1" in admin.says("provision", "list")


def test_firmware_that_has_a_key_and_a_secret_keeps_them(admin: RealShell) -> None:
    admin.rest.add(device(7))
    secret = "s" * 20
    assert admin.says("provision", "add", "--key", "k", "--secret", secret, "--added-before") == f"k\n{secret}\n"
    assert provision(admin, "k", secret, deviceName="device-7")["credentialsValue"] == "TOKEN7"
    assert provision(admin, "k", secret, deviceName="device-7")["status"] == "FAILURE"
    short = admin.run("provision", "add", "--key", "k2", "--secret", "short")
    assert (short.exit_code, "20 characters" in short.stderr) == (1, True)


def test_a_key_is_disabled_enabled_and_removed_at_once(admin: RealShell) -> None:
    key, secret = admin.says("provision", "add").split()
    for command, status in (("disable", "NOT_FOUND"), ("enable", "SUCCESS"), ("remove", "NOT_FOUND")):
        admin.says("provision", command, key)
        assert provision(admin, key, secret)["status"] == status, command
    assert admin.run("provision", "remove", key).exit_code == 4
    assert "There are no provision keys" in admin.run("provision", "list").stderr


def test_a_customer_for_devices_that_are_there_is_a_usage_error(admin: RealShell) -> None:
    assert admin.run("provision", "add", "--added-before", "--customer", "Shop").exit_code == 2
    assert admin.requests == []
