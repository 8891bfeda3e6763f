"""Things by the names that people give them. What is not there is a Stop."""

from __future__ import annotations

from uuid import UUID

from rpcbroker.cli.answers import Answer, failure
from rpcbroker.cli.rest import Rest
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.rules.format import ChainJSON
from rpcbroker.schema.calls import TimelineJSON
from rpcbroker.schema.common import MAX_TEXT
from rpcbroker.schema.devices import CredentialsJSON, DeviceInfoJSON, DeviceJSON
from rpcbroker.schema.people import CustomerJSON, TenantJSON, UserJSON

RULE_CHAIN, RULE_CHAINS = "/api/ruleChain", "/api/ruleChains"
FORGOTTEN = (
    "Of calls that are not persistent only the last ones are kept (rpc.record_recent), until the broker ends; "
    "rpcbroker calls lists them."
)

# -- devices


async def device_by_name(rest: Rest, name: str) -> DeviceJSON | None:
    """The device of this name, if there is one for this user."""
    answer = await rest.try_request("GET", "/api/tenant/device", deviceName=name)
    if answer.status == 403:  # a customer's user: only lists are for it
        return await _device_in_list(rest, name)
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise failure(answer)
    return answer.read_as(DeviceJSON)


async def device(rest: Rest, name_or_id: str) -> DeviceJSON:
    """The device of this name, or with this id."""
    device_id = _uuid(name_or_id)
    if device_id is not None:
        return await rest.ask(DeviceJSON, "GET", f"/api/device/{device_id}")
    found = await device_by_name(rest, name_or_id)
    if found is None:
        raise _missing("device", name_or_id, "named", hint="rpcbroker device list shows what there is.")
    return found


async def device_id(rest: Rest, name_or_id: str) -> UUID:
    """The same, without a request if it is the id that is given."""
    return _uuid(name_or_id) or (await device(rest, name_or_id)).id.id


async def device_token(rest: Rest, device_id: UUID) -> str:
    """The access token of a device. Raises Stop for other kinds of credentials."""
    credentials = await rest.ask(CredentialsJSON, "GET", f"/api/device/{device_id}/credentials")
    if credentials.credentials_type != "ACCESS_TOKEN":
        raise Stop(
            f"The device has credentials of the kind {credentials.credentials_type}; "
            "only access tokens can be used here."
        )
    return credentials.credentials_id


async def _device_in_list(rest: Rest, name: str) -> DeviceJSON | None:
    search = name if len(name) <= MAX_TEXT else None
    async for each in rest.pages(DeviceInfoJSON, "/api/deviceInfos/all", textSearch=search, sortProperty="name"):
        if each.name == name:
            return each
    return None


# -- calls


async def timeline(rest: Rest, rpc_id: UUID) -> TimelineJSON:
    """What happened to the call of this id."""
    return (await call(rest, "GET", f"/api/rpc/{rpc_id}/timeline", rpc_id)).read_as(TimelineJSON)


async def call(rest: Rest, method: str, path: str, rpc_id: UUID) -> Answer:
    """The answer to a request about the call of this id."""
    answer = await rest.try_request(method, path)
    if answer.status == 404:
        raise _missing("call", str(rpc_id), "with the id", hint=FORGOTTEN)
    if answer.status != 200:
        raise failure(answer)
    return answer


# -- rule chains


async def rule_chain(rest: Rest, name_or_id: str) -> ChainJSON:
    """The rule chain of this name, or with this id."""
    chain_id = _uuid(name_or_id)
    if chain_id is not None:
        return await rest.ask(ChainJSON, "GET", f"{RULE_CHAIN}/{chain_id}")
    search = name_or_id if len(name_or_id) <= MAX_TEXT else None
    found = [each async for each in rest.pages(ChainJSON, RULE_CHAINS, textSearch=search) if each.name == name_or_id]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(each.id.id for each in found if each.id)
        raise Stop(f"There are {len(found)} rule chains named {name_or_id!r}.", hint=f"Give the id of one: {ids}")
    raise _missing("rule chain", name_or_id, "named", hint="rpcbroker rules list shows what there is.")


# -- people


async def me(rest: Rest) -> UserJSON:
    """Who asks."""
    return await rest.ask(UserJSON, "GET", "/api/auth/user")


async def tenant(rest: Rest, name: str) -> TenantJSON:
    """The tenant of this name."""
    async for each in rest.pages(TenantJSON, "/api/tenants", textSearch=name):
        if each.title == name:
            return each
    raise _missing("tenant", name, "named", hint="rpcbroker tenant list shows what there is.")


async def customer(rest: Rest, title: str) -> CustomerJSON:
    """The customer of this title."""
    answer = await rest.try_request("GET", "/api/tenant/customers", customerTitle=title)
    if answer.status == 404:
        raise _missing("customer", title, "titled", hint="rpcbroker customer list shows what there is.")
    if answer.status != 200:
        raise failure(answer)
    return answer.read_as(CustomerJSON)


async def user(rest: Rest, email: str, *, tenant_name: str | None = None) -> UserJSON:
    """The user with this email, in upper or lower case; `tenant_name` is whose, for system administrators."""
    async for each in rest.pages(UserJSON, await users_path(rest, tenant_name), textSearch=email):
        if each.email.lower() == email.lower():
            return each
    raise _missing("user", email, "with the email", hint="rpcbroker user list shows who there is.")


async def users_path(rest: Rest, tenant_name: str | None) -> str:
    """Where the users are listed: one's own tenant's, or another tenant's administrators."""
    if tenant_name is None:
        return "/api/users"
    return f"/api/tenant/{(await tenant(rest, tenant_name)).id.id}/users"


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _missing(kind: str, name: str, how: str, *, hint: str) -> Stop:
    return Stop(f"There is no {kind} {how} {name!r}.", ExitCode.NOT_FOUND, hint=hint)
