"""Certificates: what is taken, what is refused and why, and when they are read again."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import certificates as c
import pytest
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory

from rpcbroker.host import key_files
from rpcbroker.host.key_files import load
from rpcbroker.host.tls import Certificate, Certificates, TlsError, TlsFiles

NOW = time.time()
SLACK = 43_200.0
"""Seconds between this and when a test makes its certificate: a run of all tests may be long."""
DH_PARAMETERS = """-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


def files(made: c.Files, **more: Any) -> TlsFiles:
    return TlsFiles(private_key=made.key, certificate=made.certificate, **more)


def serial(certificate: Certificate) -> int:
    """Of what a new connection is given."""
    return serial_of(connection(certificate))


def connection(certificate: Certificate) -> SSL.Connection:
    factory = TLSMemoryBIOFactory(certificate, False, Factory.forProtocol(Protocol), Clock())
    return certificate.serverConnectionForTLS(factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))


def serial_of(one: SSL.Connection) -> int:
    given = one.get_certificate(as_cryptography=True)
    assert given is not None
    return given.serial_number


def said(events: list[dict[str, Any]], level: Any) -> list[str]:
    return [formatEvent(event) for event in events if event["log_level"] is level]


class TestLoad:
    def test_key_and_certificate_may_be_in_one_file_with_the_chain_after_it(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=7)
        leaf = made.certificate.read_bytes()
        (tmp_path / "other").mkdir()
        issuer = c.make(tmp_path / "other", serial=8).certificate.read_bytes()
        both = tmp_path / "both.pem"
        both.write_bytes(made.key.read_bytes() + leaf + issuer)
        loaded = load(TlsFiles(private_key=both, certificate=both))
        assert loaded.options.certificate.serial_number == 7
        assert [one.serial_number for one in loaded.options.extraCertChain] == [8]
        assert loaded.not_after == pytest.approx(NOW + 100 * 86_400, abs=SLACK)

    def test_the_chain_may_have_a_file_of_its_own(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=7)
        loaded = load(files(made, chain=made.certificate))
        assert [one.serial_number for one in loaded.options.extraCertChain] == [7]

    def test_nothing_below_tls_1_2_is_spoken(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=7)
        for highest in key_files.METHODS.values():
            options = load(files(made, highest=highest)).options
            for old in (SSL.OP_NO_SSLv3, SSL.OP_NO_TLSv1, SSL.OP_NO_TLSv1_1):
                assert options._options & old
            assert not options._options & SSL.OP_NO_TLSv1_2
            assert bool(options._options & SSL.OP_NO_TLSv1_3) == (highest is not None)

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda made: made.key.unlink(), "privateKey {key}: No such file or directory"),
            (lambda made: made.certificate.unlink(), "certKey {certificate}: No such file or directory"),
            (lambda made: made.key.write_text("x"), "privateKey {key}: there is no private key in PEM in it"),
            (lambda made: made.certificate.write_text(""), "certKey {certificate}: there is no certificate in PEM"),
            (lambda made: shutil.copy(made.key, made.certificate), "certKey {certificate}: there is no certificate"),
            (
                lambda made: made.certificate.write_bytes(made.certificate.read_bytes()[:200]),
                "certKey {certificate}: there is no certificate in PEM in it, or a broken one",
            ),
            (
                lambda made: c.make(made.key.parent, serial=1, password=b"p"),
                "privateKey {key}: it is encrypted; the broker cannot ask for a passphrase",
            ),
        ],
    )
    def test_a_file_that_cannot_be_used_is_named_with_the_reason(self, tmp_path: Path, spoil: Any, says: str) -> None:
        made = c.make(tmp_path, serial=7)
        spoil(made)
        with pytest.raises(TlsError) as raised:
            load(files(made))
        assert str(raised.value).startswith(says.format(key=made.key, certificate=made.certificate))

    def test_a_key_of_another_certificate(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=7)
        old = made.certificate.read_bytes()
        c.make(tmp_path, serial=8)
        made.certificate.write_bytes(old)
        with pytest.raises(TlsError, match="does not belong to the first certificate in"):
            load(files(made))

    def test_parameters_for_diffie_hellman_that_are_none(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=7)
        with pytest.raises(TlsError, match=r"dhParameters .*: No such file"):
            load(files(made, dh_parameters=tmp_path / "none"))
        (tmp_path / "bad").touch()
        with pytest.raises(TlsError, match=f"{tmp_path / 'bad'}: OpenSSL does not take them: no start line"):
            load(files(made, dh_parameters=tmp_path / "bad"))

    def test_good_parameters_for_diffie_hellman(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=7)
        path = tmp_path / "dh.pem"
        path.write_text(DH_PARAMETERS)
        assert load(files(made, dh_parameters=path)).options.dhParameters is not None

    def test_who_may_not_read_the_key_is_told_as_whom_it_was_tried(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = c.make(tmp_path, serial=7)

        def refuse(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(TlsError) as raised:
            load(files(made))
        assert (
            str(raised.value)
            == f"certKey {made.certificate}: Permission denied; the broker runs as user {os.geteuid()}"
        )


class TestCertificate:
    def test_new_files_are_taken_and_a_connection_keeps_what_it_began_with(self, tmp_path: Path) -> None:
        certificate = Certificate("[http] ssl:443", files(c.make(tmp_path, serial=1)))
        running = connection(certificate)
        c.make(tmp_path, serial=2, days=200)
        with capturedLogs() as events:
            certificate.check(NOW)
        assert serial(certificate) == 2
        assert serial_of(running) == 1
        assert certificate.not_after == pytest.approx(NOW + 200 * 86_400, abs=SLACK)
        assert said(events, LogLevel.info) == [f"[http] ssl:443: new certificate {tmp_path / 'certificate.pem'}"]

    def test_what_cannot_be_used_is_logged_once_and_tried_again_when_it_changes(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=1)
        certificate = Certificate("[http] ssl:443", files(made))
        made.certificate.write_text("nonsense")
        with capturedLogs() as events:
            certificate.check(NOW)
            certificate.check(NOW)
        (error,) = said(events, LogLevel.error)
        assert error.startswith(f"[http] ssl:443: the certificate in use stays: certKey {made.certificate}: ")
        assert serial(certificate) == 1
        c.make(tmp_path, serial=2)
        certificate.check(NOW)
        assert serial(certificate) == 2

    def test_files_that_are_gone_for_a_while_are_no_harm(self, tmp_path: Path) -> None:
        made = c.make(tmp_path, serial=1)
        certificate = Certificate("l", files(made))
        made.key.rename(tmp_path / "away")
        with capturedLogs() as events:
            certificate.check(NOW)
        assert len(said(events, LogLevel.error)) == 1
        (tmp_path / "away").rename(made.key)
        certificate.check(NOW)
        assert serial(certificate) == 1

    def test_a_link_that_points_to_other_files_is_a_change(self, tmp_path: Path) -> None:
        for number in (1, 2):
            (tmp_path / str(number)).mkdir()
            c.make(tmp_path / str(number), serial=number)
        (tmp_path / "live").symlink_to("1")
        live = tmp_path / "live"
        certificate = Certificate("l", TlsFiles(private_key=live / "key.pem", certificate=live / "certificate.pem"))
        live.unlink()
        live.symlink_to("2")
        certificate.check(NOW)
        assert serial(certificate) == 2

    @pytest.mark.parametrize(
        ("days", "fate"), [(13.5, "ends in 13.5 days"), (0.01, "ends in 0.0 days"), (-3, "has expired"), (14.5, None)]
    )
    def test_its_end_is_warned_of_once_a_day(self, tmp_path: Path, days: float, fate: str | None) -> None:
        certificate = Certificate("l", files(c.make(tmp_path, serial=1, days=days)))
        with capturedLogs() as events:
            for minute in range(120):
                certificate.check(NOW + minute * 60)
        warned = said(events, LogLevel.warn)
        assert warned == ([f"l: the certificate {tmp_path / 'certificate.pem'} {fate}"] if fate else [])
        with capturedLogs() as events:
            certificate.check(NOW + 86_400)
        assert len(said(events, LogLevel.warn)) == 1


class TestCertificates:
    def test_the_files_are_looked_at_at_once_and_then_as_often_as_is_wanted(self, tmp_path: Path) -> None:
        clock = Clock()
        all_of_them = Certificates(clock, lambda: NOW)
        certificate = all_of_them.add("l", files(c.make(tmp_path, serial=1)))
        all_of_them.watch(30.0)
        c.make(tmp_path, serial=2)
        clock.advance(29.0)
        assert serial(certificate) == 1
        clock.advance(1.0)
        assert serial(certificate) == 2
        c.make(tmp_path, serial=3)
        all_of_them.watch(5.0)
        assert serial(certificate) == 3
        c.make(tmp_path, serial=4)
        clock.advance(5.0)
        assert serial(certificate) == 4
        all_of_them.stop()
        assert not clock.getDelayedCalls()

    def test_it_tells_when_each_ends(self, tmp_path: Path) -> None:
        all_of_them = Certificates(Clock(), lambda: NOW)
        all_of_them.add("l", files(c.make(tmp_path, serial=1, days=3)))
        assert all_of_them.expiries() == {str(tmp_path / "certificate.pem"): pytest.approx(NOW + 3 * 86_400, abs=SLACK)}

    def test_without_any_there_is_no_timer(self) -> None:
        clock = Clock()
        Certificates(clock, lambda: NOW).watch(1.0)
        assert not clock.getDelayedCalls()
