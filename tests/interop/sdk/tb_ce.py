"""tb-ce-client 4.4: models of pydantic, strict in every member."""

from __future__ import annotations

import ast
import json
from typing import Any
from uuid import UUID

from scenario import main
from tb_ce_client import models
from tb_ce_client.client import ThingsboardClient
from tb_ce_client.exceptions import ApiException


class TbCe:
    """An adapter over one ThingsboardClient: logging in makes a new one."""

    has_api_keys = True
    ApiException = ApiException

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = ThingsboardClient(url)

    # -- who asks

    def login(self, email: str, password: str) -> None:
        self.client = ThingsboardClient(self.url, username=email, password=password)

    def api_key_login(self, value: str) -> None:
        self.client = ThingsboardClient(self.url, api_key=value)

    def me(self) -> models.User:
        return self.client.get_user()

    def token(self) -> str | None:
        return self.client.get_token()

    def refresh(self) -> None:
        pair = self.client.refresh_token(models.RefreshTokenRequest(refresh_token=self.client.get_refresh_token()))
        self.client = ThingsboardClient(self.url, token=pair.token, refresh_token=pair.refresh_token)

    def logout(self) -> None:
        self.client.logout()

    def tenant(self, tenant_id: str) -> models.Tenant:
        return self.client.get_tenant_by_id(tenant_id)

    def change_password(self, old: str, new: str) -> models.JwtPair:
        return self.client.change_password(models.ChangePasswordRequest(current_password=old, new_password=new))

    # -- devices

    def save_device(self, *, access_token: str | None = None, **members: Any) -> models.Device:
        return self.client.save_device(models.Device(**members), access_token=access_token)

    def update_device(self, device: models.Device) -> models.Device:
        return self.client.save_device(device)

    def save_device_with_credentials(self, device: dict[str, Any], credentials: dict[str, Any]) -> models.Device:
        """The types demand ids of the credentials, which mean nothing for new ones."""
        nothing = UUID(int=0)
        body = models.SaveDeviceWithCredentialsRequest(
            device=models.Device(**device),
            credentials=models.DeviceCredentials(
                id=models.DeviceCredentialsId(id=nothing),
                device_id=models.DeviceId(entity_type=models.EntityType.DEVICE, id=nothing),
                **credentials,
            ),
        )
        return self.client.save_device_with_credentials(body)

    def tenant_devices(self, **query: Any) -> models.PageDataDevice:
        return self.client.get_tenant_devices(**query)

    def device_infos(self, **query: Any) -> models.PageDataDeviceInfo:
        return self.client.get_tenant_device_infos(**query)

    def device(self, device_id: str) -> models.Device:
        return self.client.get_device_by_id(device_id)

    def device_info(self, device_id: str) -> models.DeviceInfo:
        return self.client.get_device_info_by_id(device_id)

    def device_by_name(self, name: str) -> models.Device:
        return self.client.get_tenant_device_by_name(name)

    def devices_by_ids(self, ids: list[str]) -> list[models.Device]:
        return self.client.get_devices_by_ids(ids)

    def device_types(self) -> list[models.EntitySubtype]:
        return self.client.get_device_types()

    def delete_device(self, device_id: str) -> None:
        self.client.delete_device(device_id)

    def credentials(self, device_id: str) -> models.DeviceCredentials:
        return self.client.get_device_credentials_by_device_id(device_id)

    def save_credentials(self, credentials: models.DeviceCredentials) -> models.DeviceCredentials:
        return self.client.update_device_credentials(credentials)

    def call(self, version: str, device_id: str, body: dict[str, Any], *, oneway: bool) -> str:
        call = {
            ("V1", True): self.client.handle_one_way_device_rpc_request_v1,
            ("V1", False): self.client.handle_two_way_device_rpc_request_v1,
            ("V2", True): self.client.handle_one_way_device_rpc_request_v2,
            ("V2", False): self.client.handle_two_way_device_rpc_request_v2,
        }[version, oneway]
        return call(device_id, json.dumps(body))

    def reply(self, answer: str) -> Any:
        """The SDK hands JSON over as Python spells it."""
        return ast.literal_eval(answer)

    # -- persistent calls

    def kept(self, rpc_id: str) -> models.Rpc:
        return self.client.get_persisted_rpc(rpc_id)

    def kept_of(self, device_id: str, **query: Any) -> Any:
        """A page: the SDK has no type for it, and hands it over as text."""
        return self.reply(self.client.get_persisted_rpc_by_device(device_id, **query))

    def forget(self, rpc_id: str) -> None:
        self.client.delete_rpc(rpc_id)

    # -- customers

    def save_customer(self, **members: Any) -> models.Customer:
        return self.client.save_customer(models.Customer(**members))

    def update_customer(self, customer: models.Customer) -> models.Customer:
        return self.client.save_customer(customer)

    def customers(self, **query: Any) -> models.PageDataCustomer:
        return self.client.get_customers(**query)

    def customer(self, customer_id: str) -> models.Customer:
        return self.client.get_customer_by_id(customer_id)

    def short_customer(self, customer_id: str) -> str:
        return self.client.get_short_customer_info_by_id(customer_id)["title"]

    def customer_by_title(self, title: str) -> models.Customer:
        return self.client.get_tenant_customer(title)

    def delete_customer(self, customer_id: str) -> None:
        self.client.delete_customer(customer_id)

    def assign(self, customer_id: str, device_id: str) -> models.Device:
        return self.client.assign_device_to_customer(customer_id, device_id)

    def unassign(self, device_id: str) -> models.Device:
        return self.client.unassign_device_from_customer(device_id)

    def customer_devices(self, customer_id: str, **query: Any) -> models.PageDataDevice:
        return self.client.get_customer_devices(customer_id, **query)

    def customer_device_infos(self, customer_id: str, **query: Any) -> models.PageDataDeviceInfo:
        return self.client.get_customer_device_infos(customer_id, **query)

    # -- users

    def save_user(self, *, customer_id: str, **members: Any) -> models.User:
        owner = models.CustomerId(entity_type=models.EntityType.CUSTOMER, id=UUID(customer_id))
        user = models.User(authority=models.Authority.CUSTOMER_USER, customer_id=owner, **members)
        return self.client.save_user(user, send_activation_mail="false")

    def activation_link(self, user_id: str) -> str:
        return self.client.get_activation_link(user_id)

    def activate(self, token: str, password: str) -> models.JwtPair:
        return self.client.activate_user(models.ActivateUserRequest(activate_token=token, password=password))

    def users(self, **query: Any) -> models.PageDataUser:
        return self.client.get_users(**query)

    def customer_users(self, customer_id: str, **query: Any) -> models.PageDataUser:
        return self.client.get_customer_users(customer_id, **query)

    def user(self, user_id: str) -> models.User:
        return self.client.get_user_by_id(user_id)

    def enable_user(self, user_id: str, enabled: bool) -> None:
        self.client.set_user_credentials_enabled(user_id, user_credentials_enabled=str(enabled).lower())

    def delete_user(self, user_id: str) -> None:
        self.client.delete_user(user_id)

    # -- API keys

    def save_api_key(self, *, description: str, user_id: str) -> models.ApiKey:
        owner = models.UserId(entity_type=models.EntityType.USER, id=UUID(user_id))
        return self.client.save_api_key(models.ApiKeyInfo(description=description, user_id=owner, enabled=True))

    def api_keys_of(self, user_id: str, **query: Any) -> models.PageDataApiKeyInfo:
        return self.client.get_user_api_keys(user_id, **query)

    def enable_api_key(self, key_id: str, enabled: bool) -> models.ApiKeyInfo:
        return self.client.enable_api_key(UUID(key_id), enabled)

    def describe_api_key(self, key_id: str, text: str) -> models.ApiKeyInfo:
        return self.client.update_api_key_description(UUID(key_id), text)

    def delete_api_key(self, key_id: str) -> None:
        self.client.delete_api_key(UUID(key_id))

    # -- rule chains

    def save_chain(self, **members: Any) -> models.RuleChain:
        return self.client.save_rule_chain(models.RuleChain(**members))

    def update_chain(self, chain: models.RuleChain) -> models.RuleChain:
        return self.client.save_rule_chain(chain)

    def chain_like_the_default(self, name: str) -> models.RuleChain:
        return self.client.set_device_default_rule_chain(models.DefaultRuleChainCreateRequest(name=name))

    def save_graph(
        self, chain: models.RuleChain, nodes: list[dict[str, Any]], connections: list[tuple[int, int, str]]
    ) -> models.RuleChainMetaData:
        graph = models.RuleChainMetaData(
            rule_chain_id=chain.id,
            first_node_index=0,
            nodes=[models.RuleNode(**each) for each in nodes],
            connections=[models.NodeConnectionInfo(from_index=a, to_index=b, type=c) for a, b, c in connections],
            rule_chain_connections=[],
        )
        return self.client.save_rule_chain_meta_data(graph)

    def update_graph(self, graph: models.RuleChainMetaData) -> models.RuleChainMetaData:
        return self.client.save_rule_chain_meta_data(graph)

    def record(self, node: models.RuleNode) -> None:
        node.debug_settings = models.DebugSettings(all_enabled=True)

    def chains(self, **query: Any) -> models.PageDataRuleChain:
        return self.client.get_rule_chains(**query)

    def chain(self, chain_id: str) -> models.RuleChain:
        return self.client.get_rule_chain_by_id(chain_id)

    def graph(self, chain_id: str) -> models.RuleChainMetaData:
        return self.client.get_rule_chain_meta_data(chain_id)

    def set_root(self, chain_id: str) -> models.RuleChain:
        return self.client.set_root_rule_chain(chain_id)

    def export_chains(self) -> models.RuleChainData:
        return self.client.export_rule_chains(1000)

    def import_chains(self, data: models.RuleChainData) -> list[models.RuleChainImportResult]:
        return self.client.import_rule_chains(data, overwrite=True)

    def delete_chain(self, chain_id: str) -> None:
        self.client.delete_rule_chain(chain_id)

    def try_script(self, body: dict[str, Any]) -> Any:
        return self.client.test_rule_chain_script(body)

    def node_events(self, node_id: str, tenant_id: str) -> models.PageDataEventInfo:
        return self.client.get_events_by_type("RULE_NODE", node_id, "DEBUG_RULE_NODE", tenant_id, 10, 0)

    # -- what was done

    def audit(self, of: str, *which: str, **query: Any) -> models.PageDataAuditLog:
        ask = {
            "all": self.client.get_audit_logs,
            "entity": self.client.get_audit_logs_by_entity_id,
            "customer": self.client.get_audit_logs_by_customer_id,
            "user": self.client.get_audit_logs_by_user_id,
        }[of]
        return ask(*which, **query)


if __name__ == "__main__":
    main(TbCe, "tb-ce-client")
