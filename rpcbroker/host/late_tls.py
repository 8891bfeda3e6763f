"""A broker that has no certificates does without OpenSSL until something needs it.

Twisted's reactor and its endpoints, and PyJWT, take OpenSSL along when they are imported, if it is installed; if not,
they do without, which all of them document. So it is hidden while they are imported. What they lack for good then the
broker does not use: `startTLS` on transports, `listenSSL` and `connectSSL` of the reactor, `ssl:` and `tls:` endpoint
strings and `wrapClientTLS` of Twisted's own, signatures in tokens other than HMAC.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rpcbroker.core.settings import Settings
from rpcbroker.host.wanted import wanted

PLAIN = ("tcp:", "unix:", "udp:", "systemd:")
"""What listeners without certificates begin with. Any other may be a plugin's, which may do as it likes."""
_PACKAGES = ("OpenSSL", "cryptography")


@contextmanager
def hidden_openssl(settings: Settings) -> Iterator[None]:
    """What is imported inside finds no OpenSSL, unless a listener may need it, or it was loaded before.

    Afterwards it can be imported as always.
    """
    plain = all(listener.description.startswith(PLAIN) for listener in wanted(settings))
    hide = plain and not any(name in sys.modules for name in _PACKAGES)
    if hide:
        # The import system's own way to say that there is no such module.
        sys.modules.update(dict.fromkeys(_PACKAGES))  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hide:
            for name in _PACKAGES:
                del sys.modules[name]
