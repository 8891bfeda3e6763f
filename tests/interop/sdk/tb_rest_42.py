"""tb-rest-client 4.2: its client for the community edition."""

from __future__ import annotations

from typing import Any

from scenario import main
from tb_rest import TbRest
from tb_rest_client.models import models_ce
from tb_rest_client.rest import ApiException
from tb_rest_client.rest_client_ce import RestClientCE


class TbRest42(TbRest):
    def new_device(self, **members: Any) -> Any:
        """This version will have a profile: what its examples do is to ask for the default one."""
        return super().new_device(device_profile_id=self.client.get_default_device_profile_info().id, **members)

    def activation_link(self, user_id: str) -> str:
        """This version hands plain text over as Python spells bytes."""
        return super().activation_link(user_id).removeprefix("b'").removesuffix("'")

    def forget(self, rpc_id: str) -> None:
        """The wrapper of this version's client (`delete_resource`) calls what is not there; its controller has it."""
        self.client.rpc_v2_controller.delete_rpc_using_delete(rpc_id=rpc_id)

    def save_chain(self, **members: Any) -> Any:
        """A chain of this version has to say whose it is."""
        return super().save_chain(tenant_id=self.me().tenant_id, **members)

    def record(self, node: Any) -> None:
        """This version knows the older word for it."""
        node.debug_mode = True


def make(url: str) -> TbRest42:
    return TbRest42(RestClientCE(url), models_ce, ApiException)


if __name__ == "__main__":
    main(make, "tb-rest-client")
