"""Strangers that know a provision key and its secret become devices: see docs/enrolment.md."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcbroker.core import jsontext
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.broker import Broker
from rpcbroker.core.credentials import MqttBasic, check_access_token, check_mqtt_basic, mqtt_basic_id, x509_id
from rpcbroker.core.errors import BrokerError, InvalidRequest, NotFound
from rpcbroker.core.events import ProvisioningEnded
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.model import (
    Authority,
    Credentials,
    CredentialsType,
    Device,
    Principal,
    ProvisionKey,
    ProvisionStrategy,
)
from rpcbroker.core.ports import Store
from rpcbroker.core.settings import EnrolmentSettings

MAX_NAME = 255
"""Characters of a device's name."""
MAX_VALUE = 16 << 10
"""Characters of any other member, a certificate for example."""
ALL = None
"""The key, among limits, of all failures together."""


class ProvisionStatus(StrEnum):
    """How it ended, in the words of the wire."""

    SUCCESS = "SUCCESS"
    NOT_FOUND = "NOT_FOUND"
    FAILURE = "FAILURE"


_REFUSALS = {
    ProvisionStatus.NOT_FOUND: b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}',
    ProvisionStatus.FAILURE: b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}',
}
"""A stranger is not told more: the log says why."""


class ProvisionRequest(msgspec.Struct, rename="camel", kw_only=True):
    """What a stranger sends. `hash` is a certificate in PEM, with or without its first and last line."""

    device_name: str | None = None
    provision_device_key: str
    provision_device_secret: str
    credentials_type: CredentialsType | None = None
    token: str | None = None
    client_id: str | None = None
    username: str | None = None
    password: str | None = None
    hash: str | None = None
    gateway: bool | None = None


def digest(secret: str) -> str:
    """What is kept of a secret, which is at least as random as 20 letters and digits: a plain hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


_NO_DIGEST = digest("")
"""Compared with where there is no key, so that it takes as long."""


class Provisioning:
    """The door for strangers."""

    _log = Logger()

    def __init__(
        self,
        *,
        store: Store,
        broker: Broker,
        trail: AuditTrail,
        settings: EnrolmentSettings,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        new_uuid: Callable[[], UUID],
        new_token: Callable[[], str],
    ) -> None:
        """`new_token` gives an access token, and the name of a device that has none."""
        self._store = store
        self._broker = broker
        self._trail = trail
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._new_token = new_token
        self._key_failures = RateLimit(settings.key_failures, seconds)
        self._all_failures = RateLimit(settings.all_failures, seconds)

    def reconfigure(self, settings: EnrolmentSettings) -> None:
        """Other limits hold from now on."""
        self._key_failures.rate = settings.key_failures
        self._all_failures.rate = settings.all_failures

    def provision(self, request: bytes) -> Deferred[bytes]:
        """The answer to a request, both JSON texts as 3.8 has them. Fails with BadJSON, and with nothing else."""
        return Deferred.fromCoroutine(self._provision(request))

    async def _provision(self, request: bytes) -> bytes:
        wanted: ProvisionRequest = jsontext.decode_as(ProvisionRequest, request)
        try:
            key = await self._proven(wanted)
            if key is None:
                return self._refuse(ProvisionStatus.NOT_FOUND, "no such key, or not its secret")
            device, credentials = await self._enter(key, wanted)
        except BrokerError as error:
            return self._refuse(ProvisionStatus.FAILURE, error.message)
        self._broker.events.emit(ProvisioningEnded, ProvisionStatus.SUCCESS.value)
        self._trail.note(_who(key), "PROVISION_SUCCESS", ("DEVICE", device.id), name=device.name)
        return _answer(credentials)

    def _refuse(self, status: ProvisionStatus, why: str) -> bytes:
        self._log.info("a device was not provisioned: {why}", why=why)
        self._broker.events.emit(ProvisioningEnded, status.value)
        return _REFUSALS[status]

    # -- who it is

    async def _proven(self, wanted: ProvisionRequest) -> ProvisionKey | None:
        """The key, if the secret is right. Raises InvalidRequest when there were too many failures."""
        name = _checked("provisionDeviceKey", wanted.provision_device_key, MAX_NAME)
        if self._all_failures.wait(ALL) or self._key_failures.wait(name):
            raise InvalidRequest("too many failed attempts; the limits are enrolment.key_failures and all_failures")
        key = await self._store.enrolment.provision_key_named(name)
        right = hmac.compare_digest(digest(wanted.provision_device_secret), key.digest if key else _NO_DIGEST)
        if key is not None and key.enabled and right:
            return key
        self._all_failures.take(ALL)
        self._key_failures.take(name)
        return None

    # -- what it becomes

    async def _enter(self, key: ProvisionKey, wanted: ProvisionRequest) -> tuple[Device, Credentials]:
        name = _checked("deviceName", (wanted.device_name or "").strip() or self._new_token(), MAX_NAME)
        if key.strategy is ProvisionStrategy.CHECK_PRE_PROVISIONED_DEVICES:
            return await self._enter_expected(key, name, wanted)
        now = self._now_ms()
        device = Device(
            id=self._new_uuid(),
            tenant_id=key.tenant_id,
            customer_id=key.customer_id,
            name=name,
            type=key.device_type,
            created_time=now,
            additional_info={"gateway": True} if wanted.gateway else None,
        )
        credentials = Credentials(
            id=self._new_uuid(), device_id=device.id, created_time=now, **self._credentials(wanted)
        )
        await self._store.enrolment.create_provisioned(device, credentials, key.id)
        return device, credentials

    async def _enter_expected(
        self, key: ProvisionKey, name: str, wanted: ProvisionRequest
    ) -> tuple[Device, Credentials]:
        """A device that was added before; it keeps its credentials unless it names others."""
        device = await self._store.device_by_name(key.tenant_id, name)
        if device is None or device.type != key.device_type:
            raise NotFound("no device of this name and of the key's type was added before")
        old = await self._store.credentials(device.id)
        if old is None:
            raise NotFound("the device is gone")
        new = None
        if any((wanted.credentials_type, wanted.token, wanted.client_id, wanted.username, wanted.hash)):
            new = replace(old, version=old.version + 1, **self._credentials(wanted))
        await self._store.enrolment.provision(device.id, key.id, self._now_ms(), new)
        if new is not None:
            self._broker.credentials_changed(device.id)
        return device, new or old

    def _credentials(self, wanted: ProvisionRequest) -> dict[str, Any]:
        """Type, id and value of the credentials that are asked for. Raises InvalidRequest."""
        type_, value = wanted.credentials_type or CredentialsType.ACCESS_TOKEN, None
        if type_ is CredentialsType.MQTT_BASIC:
            given = MqttBasic(client_id=wanted.client_id, user_name=wanted.username, password=wanted.password)
            value = _checked("MQTT_BASIC", jsontext.encode(given).decode(), MAX_VALUE)
            check_mqtt_basic(value)
            credentials_id = mqtt_basic_id(wanted.client_id, wanted.username)
        elif type_ is CredentialsType.X509_CERTIFICATE:
            value = _checked("hash", wanted.hash or "", MAX_VALUE)
            credentials_id = x509_id(value)
        else:
            credentials_id = check_access_token(wanted.token or self._new_token())
        return {"type": type_, "credentials_id": credentials_id, "credentials_value": value}


def _checked(label: str, value: str, most: int) -> str:
    """A text that a database can keep. Raises InvalidRequest."""
    if not value or len(value) > most or "\x00" in value:
        raise InvalidRequest(f"{label} must have 1 to {most} characters, none of them U+0000")
    return value


def _answer(credentials: Credentials) -> bytes:
    value: Any = credentials.credentials_value
    if credentials.type is CredentialsType.ACCESS_TOKEN:
        value = credentials.credentials_id
    elif credentials.type is CredentialsType.MQTT_BASIC:
        value = msgspec.Raw(credentials.credentials_value or "{}")
    return jsontext.encode(
        {
            "credentialsValue": value,
            "credentialsType": credentials.type,
            "status": ProvisionStatus.SUCCESS,
        }
    )


def _who(key: ProvisionKey) -> Principal:
    """The key, as the audit log names who did something."""
    return Principal(
        user_id=key.id,
        tenant_id=key.tenant_id,
        customer_id=key.customer_id,
        authority=Authority.TENANT_ADMIN,
        email=f"provision key {key.key}",
        session_id="",
    )
