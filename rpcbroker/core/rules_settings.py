"""The settings of rule chains: what their messages, scripts and calls may take."""

from __future__ import annotations

from dataclasses import dataclass

from rpcbroker.core.setting import Duration, Size, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesSettings:
    """`[rules]`"""

    question_timeout: Duration = setting(
        60.0,
        "how long a device's question over MQTT or HTTP waits for an answer, if a rule chain takes its time",
        live=True,
    )
    max_messages: int = setting(
        10_000, "messages of one tenant that are in its rule chains at a time; one more is refused", live=True
    )
    max_messages_size: Size = setting(
        64 << 20, "memory for those of them that wait in nodes; beyond it, too, one more is refused", live=True
    )
    max_hops: int = setting(
        2_000, "nodes that one message, with all that is made of it, may pass; then its branches end", live=True
    )
    max_chains: int = setting(100, "rule chains of one tenant; one more is refused", live=True)
    max_chain_size: Size = setting(4 << 20, "the largest rule chain, as JSON; beyond it 413", live=True)
    max_chains_size: Size = setting(
        16 << 20, "all rule chains of one tenant, as JSON: in memory they take up to ten times as much", live=True
    )
    max_relations: int = setting(
        1_000,
        "relations from one device, and to one; one more is refused, but for those from gateways to their children",
        live=True,
    )
    max_pending_delays: int = setting(10_000, "messages that the delay nodes of one tenant hold at a time", live=True)
    max_delay: Duration = setting(86_400.0, "the longest that a delay node may hold a message", live=True)
    debug_events: int = setting(
        10_000, "what nodes with debugSettings recorded that is kept of one tenant, in memory", live=True, least=0
    )
    script_workers: int = setting(2, "processes that run scripts; the first is started when a script has to run")
    script_timeout: Duration = setting(0.25, "how long a script may run; then its process is killed", live=True)
    script_memory: Size = setting(64 << 20, "the memory that a script may take; then it fails")
    max_script_size: Size = setting(1 << 20, "the largest script; a chain with a larger one is refused", live=True)
    web_timeout: Duration = setting(
        10.0,
        "how long a REST API call node waits for a response, all of it, if it names no time; it may name no longer one",
        live=True,
    )
    web_hosts: tuple[str, ...] = setting(
        [],
        "hosts that REST API call nodes may call: names such as api.example.com and *.example.com, addresses, networks "
        "such as 10.0.0.0/8, and * for all that are public, each with a port such as :8080 or without. Empty is *. "
        "Not public are this machine and private, link-local and the like networks: list them by name or address to "
        "open them, beside * if it shall still hold",
        live=True,
    )
    max_web_calls: int = setting(
        100,
        "calls of REST API call nodes of one tenant at a time; up to ten times as many wait, one more fails",
        live=True,
    )
