"""Activation links, and passwords that people change."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from fakes import Slow
from rest import BASE, KEY, PASSWORD, Rest
from twisted.internet.defer import gatherResults

BODY = {"email": "new@example.org", "authority": "TENANT_ADMIN"}


@pytest.fixture
def rest() -> Rest:
    return Rest()


async def new_user(rest: Rest) -> str:
    made = await rest.ok("POST", "/api/user", BODY)
    return f"/api/user/{made['id']['id']}"


async def link_token(rest: Rest, path: str) -> str:
    link: str = await rest.ok("GET", f"{path}/activationLink")
    return link.partition("activateToken=")[2]


def activation(token: str, password: str = "a new password") -> dict[str, str]:
    return {"activateToken": token, "password": password}


async def activate(rest: Rest, token: str, password: str = "a new password") -> tuple[int, Any]:
    status, answer, _ = await rest.ask("POST", "/api/noauth/activate", activation(token, password), token=None)
    return status, answer


class TestLinks:
    @pytest_twisted.ensureDeferred
    async def test_one_chooses_a_password_and_is_logged_in_and_it_is_used_up(self, rest: Rest) -> None:
        path = await new_user(rest)
        token = await link_token(rest, path)
        assert await link_token(rest, path) == token, "asking again makes no other"
        status, pair = await activate(rest, token)
        assert status == 200
        user = await rest.ok("GET", "/api/auth/user", token=pair["token"])
        assert user["additionalInfo"]["userActivated"] is True
        login = {"username": BODY["email"], "password": "a new password"}
        assert await rest.ok("POST", "/api/auth/login", login, token=None)
        assert (await activate(rest, token))[0] == 400
        assert await rest.refused("GET", f"{path}/activationLink") == (400, "User is already activated!")

    @pytest_twisted.ensureDeferred
    async def test_used_by_two_at_once_it_lets_one_in(self, rest: Rest) -> None:
        token = await link_token(rest, await new_user(rest))
        with Slow(rest.store.people, "user") as slow:
            both = [
                rest.treq.request("POST", f"{BASE}/api/noauth/activate", json=activation(token, f"password {n}"))
                for n in range(2)
            ]
            rest.treq.flush()
        slow.arrive()
        rest.treq.flush()
        answers = await gatherResults(both)
        assert sorted(answer.code for answer in answers) == [200, 409]
        login = {"username": BODY["email"], "password": "password 0"}
        assert await rest.ok("POST", "/api/auth/login", login, token=None)

    @pytest_twisted.ensureDeferred
    async def test_forged_used_old_and_cut_ones_are_told_apart_by_nobody(self, rest: Rest) -> None:
        path = await new_user(rest)
        token = await link_token(rest, path)
        told = [
            await activate(rest, bad)
            for bad in (token[:-1], token + "0", "", "0" * 96, "ü" * 96, token[:32] + "0" * 64)
        ]
        told += [await activate(rest, f"{{{token[:31]}"), await activate(rest, "urn:uuid:" + token)]
        rest.clock.advance(86_401)
        told.append(await activate(rest, token))
        for _, answer in told:
            del answer["timestamp"]
        assert [status for status, _ in told] == [400] * len(told)
        assert len({str(answer) for _, answer in told}) == 1
        assert (await rest.refused("GET", f"{path}/activationLink", token=rest.pair().token))[0] == 400

    @pytest_twisted.ensureDeferred
    async def test_it_needs_the_servers_key(self, rest: Rest) -> None:
        """A copy of the store has the nonce, and opens nothing."""
        path = await new_user(rest)
        token = await link_token(rest, path)
        assert (await activate(rest, token[:32] + KEY.hex()[:64]))[0] == 400
        rows = str(rest.dump())
        assert token not in rows
        assert token[32:] not in rows

    @pytest_twisted.ensureDeferred
    async def test_a_new_password_has_8_to_1024_characters_and_a_failure_uses_nothing_up(self, rest: Rest) -> None:
        token = await link_token(rest, await new_user(rest))
        for password in ("", "7 chars", "x" * 1025):
            assert (await activate(rest, token, password))[0] == 400
        assert (await activate(rest, token))[0] == 200

    @pytest_twisted.ensureDeferred
    async def test_of_a_disabled_or_deleted_user_it_is_not_good(self, rest: Rest) -> None:
        path = await new_user(rest)
        token = await link_token(rest, path)
        await rest.ok("POST", f"{path}/userCredentialsEnabled?userCredentialsEnabled=false")
        assert (await activate(rest, token))[0] == 400
        await rest.ok("POST", f"{path}/userCredentialsEnabled?userCredentialsEnabled=true")
        await rest.ok("DELETE", path)
        assert (await activate(rest, token))[0] == 400

    @pytest_twisted.ensureDeferred
    async def test_a_reset_ends_the_password_the_sessions_and_the_old_link(self, rest: Rest) -> None:
        path = await new_user(rest)
        first = await link_token(rest, path)
        _, pair = await activate(rest, first)
        await rest.ok("POST", f"{path}/resetPassword")
        assert (await rest.refused("GET", "/api/auth/user", token=pair["token"]))[0] == 401
        login = {"username": BODY["email"], "password": "a new password"}
        assert (await rest.refused("POST", "/api/auth/login", login, token=None))[0] == 401
        second = await link_token(rest, path)
        assert second != first
        assert (await activate(rest, first))[0] == 400
        assert (await activate(rest, second))[0] == 200


class TestWhereTheyLead:
    @pytest.mark.parametrize("host", ["broker.example", "broker.example:8443", "10.0.0.1:80", "[::1]:8080"])
    @pytest_twisted.ensureDeferred
    async def test_to_the_host_that_was_asked(self, rest: Rest, host: str) -> None:
        path = await new_user(rest)
        link = await rest.ok("GET", f"{path}/activationLink", headers={"Host": host})
        assert link.startswith(f"http://{host}/api/noauth/activate?activateToken=")

    @pytest.mark.parametrize(
        "host",
        [
            b"evil.example/x",
            b"a b",
            b"a@evil.example",
            b"evil.example\\@good",
            b'"><script>',
            b"a:b",
            b"",
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_to_no_host_that_is_none(self, rest: Rest, host: bytes) -> None:
        path = await new_user(rest)
        status, message = await rest.refused("GET", f"{path}/activationLink", headers={"Host": host})
        assert (status, message) == (400, "The Host header cannot be used for a link")

    @pytest_twisted.ensureDeferred
    async def test_to_the_public_url_whatever_the_host(self) -> None:
        rest = Rest(http={"public_url": "https://rpc.example/base/"})
        path = await new_user(rest)
        for host in ("evil.example", "a b"):
            link = await rest.ok("GET", f"{path}/activationLink", headers={"Host": host})
            assert link.startswith("https://rpc.example/base/api/noauth/activate?activateToken=")

    @pytest_twisted.ensureDeferred
    async def test_the_page_does_not_repeat_what_is_in_the_link(self, rest: Rest) -> None:
        evil = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"
        status, page, headers = await rest.ask("GET", f"/api/noauth/activate?activateToken={evil}", token=None)
        assert status == 200
        assert "alert" not in page
        assert headers.getRawHeaders("referrer-policy") == ["no-referrer"]
        assert "default-src 'none'" in headers.getRawHeaders("content-security-policy")[0]


class TestChangingOnesPassword:
    @pytest_twisted.ensureDeferred
    async def test_all_other_sessions_end_and_the_answer_is_a_new_one(self, rest: Rest) -> None:
        mine, other = rest.pair(), rest.pair()
        body = {"currentPassword": PASSWORD, "newPassword": "another one"}
        pair = await rest.ok("POST", "/api/auth/changePassword", body, token=mine.token)
        assert await rest.ok("GET", "/api/auth/user", token=pair["token"])
        assert await rest.ok("POST", "/api/auth/token", {"refreshToken": pair["refreshToken"]}, token=None)
        for old in (mine, other):
            assert (await rest.refused("GET", "/api/auth/user", token=old.token))[0] == 401
            body = {"refreshToken": old.refresh_token}
            assert (await rest.refused("POST", "/api/auth/token", body, token=None))[0] == 401
        for password, status in (("another one", 200), (PASSWORD, 401)):
            body = {"username": rest.user.email, "password": password}
            assert (await rest.ask("POST", "/api/auth/login", body, token=None))[0] == status

    @pytest_twisted.ensureDeferred
    async def test_a_wrong_current_one_changes_nothing_and_may_not_be_guessed_at(self, rest: Rest) -> None:
        body = {"currentPassword": "wrong", "newPassword": "another one"}
        for _ in range(5):
            assert (await rest.refused("POST", "/api/auth/changePassword", body))[0] == 400
        assert (await rest.refused("POST", "/api/auth/changePassword", body))[0] == 429
        assert await rest.ok("GET", "/api/auth/user")

    @pytest.mark.parametrize("password", ["", "7 chars", "x" * 1025])
    @pytest_twisted.ensureDeferred
    async def test_a_new_one_has_8_to_1024_characters(self, rest: Rest, password: str) -> None:
        body = {"currentPassword": PASSWORD, "newPassword": password}
        assert (await rest.refused("POST", "/api/auth/changePassword", body))[0] == 400
        assert await rest.ok("GET", "/api/auth/user")
