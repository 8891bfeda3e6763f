"""How a device proves who it is, and what its credentials look like."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Protocol

import msgspec

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import CredentialsType, KnownDevice
from rpcbroker.core.ports import Store

ACCESS_TOKEN = re.compile(r"[^/+#\x00-\x1f\x7f]{1,32}")
"""Any 1 to 32 characters but those that mean something in a path or a topic."""


class MqttBasic(msgspec.Struct, frozen=True, rename="camel"):
    """The value of MQTT_BASIC credentials: each member that is not empty must be matched."""

    client_id: str | None = None
    user_name: str | None = None
    password: str | None = None


def check_access_token(token: str) -> str:
    """The token itself. Raises InvalidRequest."""
    if not ACCESS_TOKEN.fullmatch(token):
        raise InvalidRequest("accessToken must be 1 to 32 characters without '/', '+', '#' and control characters")
    return token


def check_mqtt_basic(text: str | None) -> MqttBasic:
    """The MQTT_BASIC value in `text`. Raises InvalidRequest."""
    try:
        basic: MqttBasic = jsontext.decode_as(MqttBasic, (text or "").encode())
    except jsontext.BadJSON as error:
        raise InvalidRequest(f"credentialsValue of MQTT_BASIC must be a JSON object: {error}") from None
    if not basic.client_id and not basic.user_name:
        raise InvalidRequest("MQTT_BASIC credentials need a clientId or a userName")
    if basic.password and not basic.user_name:
        raise InvalidRequest("MQTT_BASIC credentials with a password need a userName")
    return basic


def x509_id(pem: str | None) -> str:
    """The unique `credentials_id` of a certificate: SHA3-256 of the base64 of its DER form. Raises InvalidRequest."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    body = re.sub(r"-----(BEGIN|END) CERTIFICATE-----|\s", "", pem or "")
    try:
        text = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
        der = x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)
    except ValueError:
        raise InvalidRequest("credentialsValue of X509_CERTIFICATE must be one certificate in PEM") from None
    return x509_fingerprint(der)


def x509_fingerprint(der: bytes) -> str:
    """What a certificate in DER is known by."""
    return hashlib.sha3_256(base64.b64encode(der)).hexdigest()


def mqtt_basic_id(client_id: str | None, user_name: str | None) -> str:
    """The unique `credentials_id` of MQTT_BASIC credentials; never equal to an access token's."""
    lengths = f"{len(client_id or '')}|{client_id or ''}|{user_name or ''}"
    return hashlib.sha3_256(lengths.encode("utf-8", "surrogatepass")).hexdigest()


class DeviceLogin(Protocol):
    """What a connecting device shows."""

    @property
    def client_id(self) -> str: ...

    @property
    def username(self) -> str | None: ...

    @property
    def password(self) -> bytes | None: ...


async def authenticate(store: Store, login: DeviceLogin, *, certificate: bytes | None, now: int) -> KnownDevice | None:
    """The device that `login` proves to be, or None. `now` is in epoch ms.

    A `certificate` (DER) that was shown decides alone: it must be a device's, and good now. Without one
    MQTT_BASIC is tried first: by client id and user name, then by the user name alone (without a
    user name, by the client id alone). The first record found decides: there is no way on to the
    access token after a wrong password. Then the user name is taken as an access token.
    """
    if certificate is not None:
        for known in await store.matching_credentials([x509_fingerprint(certificate)]):
            if known.type is CredentialsType.X509_CERTIFICATE and _is_good(certificate, now):
                return known
        return None
    if login.username is None:
        if not login.client_id:
            return None
        ids = [mqtt_basic_id(login.client_id, None)]
    else:
        ids = [
            mqtt_basic_id(login.client_id, login.username),
            mqtt_basic_id(None, login.username),
        ]
        if ACCESS_TOKEN.fullmatch(login.username):
            ids.append(login.username)
    found = {known.credentials_id: known for known in await store.matching_credentials(ids)}
    for credentials_id in ids:
        if credentials_id in found:
            known = found[credentials_id]
            return known if _proves(known, login) else None
    return None


async def by_token(store: Store, token: str) -> KnownDevice | None:
    """The device whose access token this is, or None."""
    for known in await store.matching_credentials([token]):
        if known.type is CredentialsType.ACCESS_TOKEN:
            return known
    return None


def _is_good(der: bytes, now: int) -> bool:
    """Whether a certificate can be read, and `now` is between its two dates."""
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError:
        return False
    return first.timestamp() <= now / 1000 <= last.timestamp()


def _proves(known: KnownDevice, login: DeviceLogin) -> bool:
    if known.type is CredentialsType.ACCESS_TOKEN:
        return True
    if known.type is not CredentialsType.MQTT_BASIC:
        return False
    basic = check_mqtt_basic(known.credentials_value)
    if not basic.password:
        return True
    return hmac.compare_digest(basic.password.encode(), login.password or b"")
