"""What Twisted and PyJWT do without OpenSSL, and that it is there when it is needed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from rpcbroker.core.settings import Settings
from rpcbroker.host.late_tls import hidden_openssl

HIDDEN = """
import sys
from rpcbroker.core.settings import Settings
from rpcbroker.host.late_tls import hidden_openssl
with hidden_openssl(Settings()):
    import jwt
    from twisted.internet import endpoints, reactor
    import rpcbroker.service
loaded = {name.partition(".")[0] for name in sys.modules}
"""


def said(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", HIDDEN + code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stderr == ""
    return ran.stdout


def test_all_of_the_broker_is_imported_without_openssl() -> None:
    assert said("print(loaded & {'OpenSSL', 'cryptography', 'service_identity'})") == "set()\n"


def test_afterwards_it_is_there_for_who_needs_it() -> None:
    code = """
import rpcbroker.host.key_files, rpcbroker.outside.web_exchange, rpcbroker.transports.coap.dtls
import rpcbroker.web.websocket_connection
from twisted.internet.interfaces import ISSLTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import BrowserLikePolicyForHTTPS
options = BrowserLikePolicyForHTTPS().creatorForNetloc(b"example.org", 443)
print(ISSLTransport.implementedBy(TLSMemoryBIOFactory.protocol), type(options).__name__)
"""
    assert said(code) == "True ClientTLSOptions\n"


def test_tokens_are_signed_without_it() -> None:
    code = "print(jwt.decode(jwt.encode({'sub': 'a'}, 'k' * 64, algorithm='HS512'), 'k' * 64, algorithms=['HS512']))"
    assert said(code) == "{'sub': 'a'}\n"


@pytest.mark.parametrize(
    "description", ["ssl:8443:privateKey=k.pem", "tls:8443", "tcp6:8080"], ids=["ours", "Twisted's", "a plugin's"]
)
def test_it_is_not_hidden_from_listeners_that_may_need_it(description: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OpenSSL", "cryptography"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    settings = Settings()
    with hidden_openssl(replace(settings, mqtt=replace(settings.mqtt, listen=(*settings.mqtt.listen, description)))):
        assert not {"OpenSSL", "cryptography"} & set(sys.modules)
    with hidden_openssl(settings):
        assert sys.modules["OpenSSL"] is sys.modules["cryptography"] is None, "and otherwise it is"
    assert not {"OpenSSL", "cryptography"} & set(sys.modules)


def test_it_is_not_taken_from_who_has_it() -> None:
    import OpenSSL.SSL

    with hidden_openssl(Settings()):
        assert sys.modules["OpenSSL.SSL"] is OpenSSL.SSL
        assert sys.modules["OpenSSL"] is OpenSSL


def test_it_can_be_imported_after_an_error() -> None:
    code = """
try:
    with hidden_openssl(Settings()):
        import OpenSSL
except ImportError:
    import OpenSSL.SSL, cryptography
    print("there")
"""
    assert said(code) == "there\n"
