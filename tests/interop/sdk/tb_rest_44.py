"""tb-rest-client 4.4: one client for all editions; devices have owners, and there are API keys."""

from __future__ import annotations

from typing import Any

from scenario import main
from tb_rest import TbRest
from tb_rest_client import models
from tb_rest_client.rest import ApiException
from tb_rest_client.rest_client import RestClient


class TbRest44(TbRest):
    has_api_keys = True

    def api_key_login(self, value: str) -> None:
        self.client.api_key_login(value)

    def save_api_key(self, *, description: str, user_id: str) -> Any:
        owner = models.UserId(id=user_id, entity_type="USER")
        return self.client.save_api_key(models.ApiKeyInfo(description=description, user_id=owner, enabled=True))

    def api_keys_of(self, user_id: str, **query: Any) -> Any:
        return self.client.get_user_api_keys(user_id, **query)

    def enable_api_key(self, key_id: str, enabled: bool) -> Any:
        return self.client.enable_api_key(key_id, enabled)

    def describe_api_key(self, key_id: str, text: str) -> Any:
        return self.client.update_api_key_description(key_id, text)

    def delete_api_key(self, key_id: str) -> None:
        self.client.delete_api_key(key_id)


def make(url: str) -> TbRest44:
    return TbRest44(RestClient(url), models, ApiException)


if __name__ == "__main__":
    main(make, "tb-rest-client")
