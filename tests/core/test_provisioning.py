"""Strangers that become devices: who is let in, as what, and what they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from certificates import make
from fakes import EPOCH_MS, TENANT, World, customer, device, error_of, result_of

from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.credentials import mqtt_basic_id
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.events import ProvisioningEnded
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.model import AuditFilter, CredentialsType, Device, PageLink, ProvisionKey, ProvisionStrategy
from rpcbroker.core.provisioning import Provisioning, digest
from rpcbroker.core.settings import AuditSettings, EnrolmentSettings

SECRET = "s" * 20
NOT_FOUND = b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
FAILURE = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'
EXPECTED = ProvisionStrategy.CHECK_PRE_PROVISIONED_DEVICES


class Door(World):
    """A broker that strangers may come to, with one provision key."""

    def __init__(self, *, limits: dict[str, Any] | None = None, **key: Any) -> None:
        super().__init__()
        self.trail = AuditTrail(
            self.store.audit, settings=AuditSettings(), deadlines=self.broker.deadlines, now_ms=self.now_ms
        )
        tokens = iter(range(1, 100))
        self.provisioning = Provisioning(
            store=self.store,
            broker=self.broker,
            trail=self.trail,
            settings=EnrolmentSettings(**limits or {}),
            now_ms=self.now_ms,
            seconds=self.clock.seconds,
            new_uuid=self.new_uuid,
            new_token=lambda: f"random{next(tokens)}",
        )
        self.key = self.new_uuid()
        members = {"key": "k", "device_type": "pump", "digest": digest(SECRET)} | key
        made = ProvisionKey(id=self.key, tenant_id=TENANT, created_time=EPOCH_MS, **members)
        if made.customer_id is not None:
            result_of(self.store.people.create_customer(customer()))
        result_of(self.store.enrolment.create_provision_key(made))

    def ask(self, **members: Any) -> bytes:
        request = {"provisionDeviceKey": "k", "provisionDeviceSecret": SECRET} | members
        answer: bytes = result_of(self.provisioning.provision(json.dumps(request).encode()))
        return answer

    def named(self, name: str) -> Device:
        found: Device | None = result_of(self.store.device_by_name(TENANT, name))
        assert found is not None
        return found

    def uses(self) -> int:
        key: ProvisionKey = result_of(self.store.enrolment.provision_key(self.key))
        return key.uses


@pytest.fixture
def pem(tmp_path: Path) -> str:
    return make(tmp_path, serial=1).certificate.read_text()


class TestNewDevices:
    def test_with_a_token_of_their_own(self) -> None:
        door = Door()
        answer = door.ask(deviceName="p1", token="MINE")
        assert answer == b'{"credentialsValue":"MINE","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}'
        made = door.named("p1")
        assert (made.type, made.customer_id, made.additional_info) == ("pump", None, None)
        (known,) = result_of(door.store.matching_credentials(["MINE"]))
        assert (known.type, known.device) == (CredentialsType.ACCESS_TOKEN, made)
        assert door.uses() == 1

    def test_with_nothing_but_the_key_they_get_a_name_and_a_token(self) -> None:
        door = Door()
        assert json.loads(door.ask())["credentialsValue"] == "random2"
        assert door.named("random1")

    def test_as_gateways_of_a_customer(self) -> None:
        door = Door(customer_id=customer().id)
        door.ask(deviceName="g", gateway=True)
        made = door.named("g")
        assert (made.customer_id, made.additional_info) == (customer().id, {"gateway": True})

    def test_with_mqtt_basic(self) -> None:
        door = Door()
        answer = door.ask(credentialsType="MQTT_BASIC", clientId="c", username="u", password="p")
        assert json.loads(answer) == {
            "credentialsValue": {"clientId": "c", "userName": "u", "password": "p"},
            "credentialsType": "MQTT_BASIC",
            "status": "SUCCESS",
        }
        assert result_of(door.store.matching_credentials([mqtt_basic_id("c", "u")]))

    def test_with_a_certificate(self, pem: str) -> None:
        door = Door()
        body = "".join(pem.splitlines()[1:-1])
        answer = json.loads(door.ask(deviceName="x", credentialsType="X509_CERTIFICATE", hash=body))
        assert (answer["credentialsValue"], answer["status"]) == (body, "SUCCESS")
        credentials = result_of(door.store.credentials(door.named("x").id))
        assert (credentials.type, len(credentials.credentials_id)) == (CredentialsType.X509_CERTIFICATE, 64)

    @pytest.mark.parametrize(
        "members",
        [
            {"deviceName": "device-100"},
            {"deviceName": "n" * 256},
            {"deviceName": "a\x00b"},
            {"token": "TOKEN100"},
            {"token": "a/b"},
            {"credentialsType": "MQTT_BASIC"},
            {"credentialsType": "MQTT_BASIC", "clientId": "c", "password": "p"},
            {"credentialsType": "X509_CERTIFICATE"},
            {"credentialsType": "X509_CERTIFICATE", "hash": "no certificate"},
        ],
    )
    def test_what_cannot_be_a_device_is_a_failure_and_leaves_nothing(self, members: dict[str, Any]) -> None:
        door = Door()
        assert door.ask(**members) == FAILURE
        assert door.uses() == 0

    def test_what_has_been_made_is_in_the_audit_log(self) -> None:
        door = Door()
        door.ask(deviceName="p1")
        result_of(door.trail.flush())
        (entry,) = result_of(door.store.audit.entries(AuditFilter(tenant_id=TENANT), PageLink(page_size=9))).items
        assert (entry.action, entry.entity_id, entry.entity_name, entry.user_name, entry.failure) == (
            "PROVISION_SUCCESS",
            door.named("p1").id,
            "p1",
            "provision key k",
            "",
        )


class TestExpectedDevices:
    """Added before, by somebody else."""

    def door(self) -> Door:
        door = Door(strategy=EXPECTED)
        door.add(device(7, type="pump"))
        return door

    def test_they_get_what_credentials_they_have_once(self) -> None:
        door = self.door()
        assert json.loads(door.ask(deviceName="device-7"))["credentialsValue"] == "TOKEN7"
        assert door.ask(deviceName="device-7") == FAILURE
        assert door.uses() == 1

    def test_or_those_that_they_ask_for_and_the_old_ones_are_out(self) -> None:
        door = self.door()
        link = door.link(device(7, type="pump"))
        assert json.loads(door.ask(deviceName="device-7", token="NEW"))["credentialsValue"] == "NEW"
        assert len(link.closed) == 1
        assert result_of(door.store.matching_credentials(["TOKEN7"])) == ()

    def test_credentials_that_are_taken_do_not_use_up_the_one_time(self) -> None:
        door = self.door()
        assert door.ask(deviceName="device-7", token="TOKEN100") == FAILURE
        assert json.loads(door.ask(deviceName="device-7", token="NEW"))["status"] == "SUCCESS"

    @pytest.mark.parametrize("name", ["unknown", "device-100", None])
    def test_others_are_not_let_in(self, name: str | None) -> None:
        door = self.door()
        assert door.ask(deviceName=name) == FAILURE
        assert door.uses() == 0

    def test_a_device_that_made_itself_is_not_expected_again(self) -> None:
        door = self.door()
        result_of(
            door.store.enrolment.create_provision_key(
                ProvisionKey(
                    id=door.new_uuid(),
                    tenant_id=TENANT,
                    key="new",
                    digest=digest(SECRET),
                    device_type="pump",
                    created_time=EPOCH_MS,
                )
            )
        )
        door.ask(provisionDeviceKey="new", deviceName="p1")
        assert door.ask(deviceName="p1") == FAILURE


class TestStrangers:
    def test_an_unknown_key_and_a_wrong_secret_are_the_same(self) -> None:
        door = Door()
        assert door.ask(provisionDeviceKey="x") == door.ask(provisionDeviceSecret="x") == NOT_FOUND
        assert door.ask(provisionDeviceSecret="") == NOT_FOUND
        assert Door(enabled=False).ask() == NOT_FOUND

    def test_guessing_at_a_key_ends_and_begins_again_with_time(self) -> None:
        door = Door(limits={"key_failures": ((3, 60.0),)})
        for _ in range(3):
            assert door.ask(provisionDeviceSecret="guess") == NOT_FOUND
        assert door.ask() == FAILURE, "it may be a guess that is right"
        door.clock.advance(21)
        assert json.loads(door.ask())["status"] == "SUCCESS"

    def test_guessing_at_all_keys_ends_too(self) -> None:
        door = Door(limits={"all_failures": ((3, 60.0),)})
        for number in range(3):
            door.ask(provisionDeviceKey=f"guess {number}")
        assert door.ask() == FAILURE

    def test_those_who_know_the_secret_use_up_nothing(self) -> None:
        door = Door(limits={"key_failures": ((1, 60.0),), "all_failures": ((1, 60.0),)})
        for _ in range(5):
            assert json.loads(door.ask())["status"] == "SUCCESS"
            assert door.ask(deviceName="device-100") == FAILURE

    def test_other_limits_hold_at_once(self) -> None:
        door = Door(limits={"key_failures": ((1, 60.0),)})
        door.ask(provisionDeviceSecret="guess")
        door.provisioning.reconfigure(EnrolmentSettings(key_failures=(), all_failures=()))
        assert json.loads(door.ask())["status"] == "SUCCESS"

    @pytest.mark.parametrize(
        "request_",
        [
            b"",
            b"{",
            b"[]",
            b"{}",
            b'{"provisionDeviceKey":"k"}',
            b'{"provisionDeviceKey":1,"provisionDeviceSecret":""}',
        ],
    )
    def test_what_is_no_request_is_bad_json(self, request_: bytes) -> None:
        assert isinstance(error_of(Door().provisioning.provision(request_)), BadJSON)

    def test_a_store_that_does_not_take_it_is_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        door = Door()

        def refuse(*_: Any) -> None:
            raise Unavailable("too many writes wait")

        monkeypatch.setattr(door.store.enrolment, "create_provisioned", refuse)
        assert door.ask() == FAILURE

    def test_how_it_ended_is_told(self) -> None:
        door = Door()
        told: list[str] = []
        door.broker.events.listen(ProvisioningEnded, lambda event: told.append(event.status))
        door.ask()
        door.ask(provisionDeviceSecret="x")
        door.ask(token="a/b")
        assert told == ["SUCCESS", "NOT_FOUND", "FAILURE"]


def test_a_device_that_has_come_in_can_be_called() -> None:
    door = Door()
    door.ask(deviceName="p1")
    assert door.session(door.named("p1")).device == door.named("p1")
