"""What a reload takes of the settings that were read, and what has to wait for a restart."""

from __future__ import annotations

from rpcbroker.core.settings import HttpSettings, LogSettings, Settings, StoreSettings, reloaded


def test_what_is_live_is_taken_and_what_is_not_is_named() -> None:
    running = Settings(http=HttpSettings(max_connections=5, listen=("tcp:1",)))
    read = Settings(
        http=HttpSettings(max_connections=6, listen=("tcp:2",), idle_timeout=running.http.idle_timeout),
        log=LogSettings(level="debug"),
        store=StoreSettings(url="sqlite:///other"),
    )
    new, changed, missed = reloaded(running, read)
    assert new == Settings(
        http=HttpSettings(max_connections=6, listen=("tcp:1",)), log=LogSettings(level="debug"), store=running.store
    )
    assert changed == ["[log] level", "[http] max_connections"]
    assert missed == ["[http] listen", "[store] url"]


def test_it_is_missed_again_at_the_next_reload_as_long_as_it_differs() -> None:
    read = Settings(store=StoreSettings(cache_size=7))
    running, _, missed = reloaded(Settings(), read)
    assert missed == ["[store] cache_size"]
    assert reloaded(running, read)[1:] == ([], ["[store] cache_size"])
    assert reloaded(running, Settings())[1:] == ([], [])
