"""Users that tests of the console sign in as, besides the administrator."""

from __future__ import annotations

import urllib.request

from daemon import PASSWORD, Daemon


def activated(broker: Daemon, user_id: str) -> None:
    """The user has chosen PASSWORD."""
    link = urllib.request.Request(f"{broker.http}/api/user/{user_id}/activationLink")
    link.add_header("X-Authorization", f"Bearer {broker.token}")
    with urllib.request.urlopen(link, timeout=30) as answer:
        token = answer.read().decode().partition("activateToken=")[2]
    assert broker.ask("POST", "/api/noauth/activate", {"activateToken": token, "password": PASSWORD})[0] == 200


def user_of_customer(broker: Daemon, email: str) -> str:
    """A new user, of a customer of its own, with the password PASSWORD. Its id."""
    customer = broker.ask("POST", "/api/customer", {"title": f"Customer of {email}"})[1]
    body = {"email": email, "authority": "CUSTOMER_USER", "customerId": customer["id"]}
    user_id: str = broker.ask("POST", "/api/user?sendActivationMail=false", body)[1]["id"]["id"]
    activated(broker, user_id)
    return user_id
