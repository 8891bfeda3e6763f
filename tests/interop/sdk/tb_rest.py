"""What both generations of tb-rest-client have in common, under the scenario's names."""

from __future__ import annotations

import json
from typing import Any


class TbRest:
    """An adapter over one RestClient. `models` is the module of its types."""

    has_api_keys = False

    def __init__(self, client: Any, models: Any, api_exception: type[Exception]) -> None:
        self.client = client
        self.models = models
        self.ApiException = api_exception

    # -- who asks

    def login(self, email: str, password: str) -> None:
        self.client.login(email, password)

    def me(self) -> Any:
        return self.client.get_user()

    def token(self) -> str:
        return self.client.get_token()

    def refresh(self) -> None:
        self.client.refresh()

    def logout(self) -> None:
        self.client.logout()

    def tenant(self, tenant_id: str) -> Any:
        return self.client.get_tenant_by_id(tenant_id)

    def change_password(self, old: str, new: str) -> Any:
        body = self.models.ChangePasswordRequest(current_password=old, new_password=new)
        return self.client.change_password(body)

    # -- devices

    def new_device(self, **members: Any) -> Any:
        return self.models.Device(**members)

    def save_device(self, *, access_token: str | None = None, **members: Any) -> Any:
        return self.client.save_device(self.new_device(**members), access_token=access_token)

    def update_device(self, device: Any) -> Any:
        return self.client.save_device(device)

    def save_device_with_credentials(self, device: dict[str, Any], credentials: dict[str, Any]) -> Any:
        body = self.models.SaveDeviceWithCredentialsRequest(
            device=self.new_device(**device),
            credentials=self.models.DeviceCredentials(id=None, device_id=None, **credentials),
        )
        return self.client.save_device_with_credentials(body)

    def tenant_devices(self, **query: Any) -> Any:
        return self.client.get_tenant_devices(**query)

    def device_infos(self, **query: Any) -> Any:
        return self.client.get_tenant_device_infos(**query)

    def device(self, device_id: str) -> Any:
        return self.client.get_device_by_id(device_id)

    def device_info(self, device_id: str) -> Any:
        return self.client.get_device_info_by_id(device_id)

    def device_by_name(self, name: str) -> Any:
        return self.client.get_tenant_device(name)

    def devices_by_ids(self, ids: list[str]) -> Any:
        return self.client.get_devices_by_ids(ids)

    def device_types(self) -> Any:
        return self.client.get_device_types()

    def delete_device(self, device_id: str) -> None:
        self.client.delete_device(device_id)

    def credentials(self, device_id: str) -> Any:
        return self.client.get_device_credentials_by_device_id(device_id)

    def save_credentials(self, credentials: Any) -> Any:
        return self.client.update_device_credentials(credentials)

    def call(self, version: str, device_id: str, body: dict[str, Any], *, oneway: bool) -> Any:
        """The wrappers that end in `_v1` are those of V2."""
        call = {
            ("V1", True): self.client.handle_one_way_device_rpc_request,
            ("V1", False): self.client.handle_two_way_device_rpc_request,
            ("V2", True): self.client.handle_one_way_device_rpc_request_v1,
            ("V2", False): self.client.handle_two_way_device_rpc_request_v1,
        }[version, oneway]
        return call(device_id, body)

    def reply(self, answer: Any) -> Any:
        return json.loads(answer) if isinstance(answer, str) else answer

    # -- persistent calls

    def kept(self, rpc_id: str) -> Any:
        return self.client.get_persisted_rpc(rpc_id)

    def kept_of(self, device_id: str, **query: Any) -> Any:
        """A page, as JSON."""
        return self.client.get_persisted_rpc_by_device(device_id, **query)

    def forget(self, rpc_id: str) -> None:
        self.client.delete_rpc(rpc_id)

    # -- customers

    def save_customer(self, **members: Any) -> Any:
        return self.client.save_customer(self.models.Customer(**members))

    def update_customer(self, customer: Any) -> Any:
        return self.client.save_customer(customer)

    def customers(self, **query: Any) -> Any:
        return self.client.get_customers(**query)

    def customer(self, customer_id: str) -> Any:
        return self.client.get_customer_by_id(customer_id)

    def short_customer(self, customer_id: str) -> str:
        return self.client.get_short_customer_info_by_id(customer_id)["title"]

    def customer_by_title(self, title: str) -> Any:
        return self.client.get_tenant_customer(title)

    def delete_customer(self, customer_id: str) -> None:
        self.client.delete_customer(customer_id)

    def assign(self, customer_id: str, device_id: str) -> Any:
        return self.client.assign_device_to_customer(customer_id, device_id)

    def unassign(self, device_id: str) -> Any:
        return self.client.unassign_device_from_customer(device_id)

    def customer_devices(self, customer_id: str, **query: Any) -> Any:
        return self.client.get_customer_devices(customer_id, **query)

    def customer_device_infos(self, customer_id: str, **query: Any) -> Any:
        return self.client.get_customer_device_infos(customer_id, **query)

    # -- users

    def save_user(self, *, customer_id: str, **members: Any) -> Any:
        owner = self.models.CustomerId(id=customer_id, entity_type="CUSTOMER")
        user = self.models.User(authority="CUSTOMER_USER", customer_id=owner, **members)
        return self.client.save_user(user, send_activation_mail=False)

    def activation_link(self, user_id: str) -> str:
        return self.client.get_activation_link(user_id)

    def activate(self, token: str, password: str) -> Any:
        body = self.models.ActivateUserRequest(activate_token=token, password=password)
        return self.client.activate_user(body, send_activation_mail=False)

    def users(self, **query: Any) -> Any:
        return self.client.get_users(**query)

    def customer_users(self, customer_id: str, **query: Any) -> Any:
        return self.client.get_customer_users(customer_id, **query)

    def user(self, user_id: str) -> Any:
        return self.client.get_user_by_id(user_id)

    def enable_user(self, user_id: str, enabled: bool) -> None:
        self.client.set_user_credentials_enabled(user_id, user_credentials_enabled=enabled)

    def delete_user(self, user_id: str) -> None:
        self.client.delete_user(user_id)

    # -- rule chains

    def save_chain(self, **members: Any) -> Any:
        return self.client.save_rule_chain_v1(self.models.RuleChain(**members))

    def update_chain(self, chain: Any) -> Any:
        return self.client.save_rule_chain_v1(chain)

    def chain_like_the_default(self, name: str) -> Any:
        return self.client.save_rule_chain(self.models.DefaultRuleChainCreateRequest(name=name))

    def save_graph(self, chain: Any, nodes: list[dict[str, Any]], connections: list[tuple[int, int, str]]) -> Any:
        m = self.models
        graph = m.RuleChainMetaData(
            rule_chain_id=chain.id,
            first_node_index=0,
            nodes=[m.RuleNode(**each) for each in nodes],
            connections=[m.NodeConnectionInfo(from_index=a, to_index=b, type=c) for a, b, c in connections],
            rule_chain_connections=[],
        )
        return self.client.save_rule_chain_meta_data(graph)

    def update_graph(self, graph: Any) -> Any:
        return self.client.save_rule_chain_meta_data(graph)

    def record(self, node: Any) -> None:
        node.debug_settings = self.models.DebugSettings(all_enabled=True)

    def chains(self, **query: Any) -> Any:
        return self.client.get_rule_chains(**query)

    def chain(self, chain_id: str) -> Any:
        return self.client.get_rule_chain_by_id(chain_id)

    def graph(self, chain_id: str) -> Any:
        return self.client.get_rule_chain_meta_data(chain_id)

    def set_root(self, chain_id: str) -> Any:
        return self.client.set_root_rule_chain(chain_id)

    def export_chains(self) -> Any:
        return self.client.export_rule_chains(1000)

    def import_chains(self, data: Any) -> Any:
        return self.client.import_rule_chains(data, overwrite=True)

    def delete_chain(self, chain_id: str) -> None:
        self.client.delete_rule_chain(chain_id)

    def try_script(self, body: dict[str, Any]) -> Any:
        return self.client.test_script(body)

    def node_events(self, node_id: str, tenant_id: str) -> Any:
        node = self.models.EntityId(entity_type="RULE_NODE", id=node_id)
        tenant = self.models.TenantId(entity_type="TENANT", id=tenant_id)
        return self.client.get_events_v1_get1(node, "DEBUG_RULE_NODE", tenant, 10, 0)

    # -- what was done

    def audit(self, of: str, *which: str, **query: Any) -> Any:
        if of == "all":
            return self.client.get_audit_logs(**query)
        if of == "entity":
            entity_type, entity_id = which
            entity = self.models.EntityId(entity_type=entity_type, id=entity_id)
            return self.client.get_audit_logs_by_entity_id(entity, **query)
        ask = {"customer": self.client.get_audit_logs_by_customer_id, "user": self.client.get_audit_logs_by_user_id}[of]
        return ask(*which, **query)
