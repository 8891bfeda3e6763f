"""`rpcbroker rules test`"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import msgspec

from rpcbroker.cli.chain_files import read_bytes, read_chains, stored_with_entered
from rpcbroker.cli.listing import print_json
from rpcbroker.cli.path_telling import path_lines
from rpcbroker.cli.rule_scripts import scripts
from rpcbroker.cli.run import run
from rpcbroker.cli.session import logged_in
from rpcbroker.cli.stop import ExitCode, Stop
from rpcbroker.cli.values import call_params
from rpcbroker.core import jsontext
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.rules.chain import ChainRefused
from rpcbroker.rules.dry import DryRun
from rpcbroker.rules.dry_ports import DryMessage, asking, calling
from rpcbroker.rules.format import ChainFile
from rpcbroker.rules.path_format import path_json


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("chain")
@click.argument("words", nargs=-1, metavar="MESSAGE | PARAMS")
@click.option("--ask", metavar="METHOD", help="A device asks the server for this.")
@click.option("--call", metavar="METHOD", help="A caller calls the device.")
@click.option("--reply", metavar="JSON", help="What devices reply.  [default: {}]")
@click.option("--offline", is_flag=True, help="Calls to devices fail, for these are not connected.")
@click.option("--json", "as_json", is_flag=True, help="The path as a JSON object.")
def test(
    chain: str,
    words: Sequence[str],
    ask: str | None,
    call: str | None,
    reply: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Take a message through CHAIN without effects, and print its path.

    CHAIN is a file, or a chain that the broker has. Nothing is called, saved, or sent to other servers:
    what would have been is printed, and what who waits for an answer would get; the exit code is 1 if
    that is none. Scripts are run, in a process of their own. Delays take no time.

    \b
    rpcbroker rules test chain.json --ask getCurrentTime
    rpcbroker rules test chain.json --call setGpio pin=7 --reply '{"ok":true}'
    rpcbroker rules test 'Root Rule Chain' '{"type":"POST_TELEMETRY_REQUEST","data":{"t":21}}'
    rpcbroker rules test chain.json @message.json

    \b
    MESSAGE is a JSON object, or @FILE with one. Its members; all but type may be left out:
      type          such as POST_TELEMETRY_REQUEST
      data          any JSON
      metadata      an object of texts; what its type needs is added
      originator    the device: {"name","type","id","additionalInfo"}
      related       an array of such: what searches for related devices find
      attributes    {"SERVER_SCOPE":{"key":value}}, those of all devices
      telemetry     {"key":value}, the latest of all devices
      reply         as the option
      offline       true, as the option
      webReply      what other servers answer, any JSON
      webStatus     and under which status
    """
    given = _given(words, ask, call)
    if reply is not None:
        given.reply = _json_of(reply, "--reply")
    given.offline = given.offline or offline

    async def main(reactor: Any) -> None:
        chains = await _chains(reactor, chain)
        async with scripts(reactor, RulesSettings()) as there:
            dry = DryRun(
                chains,
                given,
                scripts=there,
                now_ms=int(time.time() * 1000),
                new_uuid=uuid4,
                settings=RulesSettings(),
            )
            try:
                path = await dry.run()
            except ChainRefused as error:
                raise Stop(f"{error.message}.", hint="All that is wrong: rpcbroker rules check FILE") from None
        if as_json:
            print_json(path_json(path))
        else:
            for line in path_lines(path, given.type):
                click.echo(line)
        if path.error is not None or not path.ended:
            raise click.exceptions.Exit(ExitCode.ERROR)

    run(main)


def _given(words: Sequence[str], ask: str | None, call: str | None) -> DryMessage:
    """Raises click's usage error."""
    if ask is not None and call is not None:
        raise click.UsageError("Either --ask or --call: a message is one of them.")
    if ask is not None:
        return asking(ask, call_params(words))
    if call is not None:
        return calling(call, call_params(words))
    if len(words) != 1:
        raise click.UsageError("Say which message: one JSON object, @FILE, --ask METHOD or --call METHOD.")
    text = read_bytes(words[0][1:]) if words[0].startswith("@") else words[0].encode(errors="replace")
    try:
        message: DryMessage = jsontext.decode_as(DryMessage, text)
    except jsontext.BadJSON as error:
        raise click.UsageError(f"The message cannot be read: {error}") from None
    return message


def _json_of(text: str, what: str) -> Any:
    try:
        return msgspec.Raw(jsontext.compact(text.encode(errors="replace")))
    except jsontext.BadJSON as error:
        raise click.UsageError(f"{what} is not JSON: {error}") from None


async def _chains(reactor: Any, chain: str) -> list[ChainFile]:
    """From a file, of several chains the root first; else those of the broker."""
    if chain == "-" or Path(chain).is_file():
        return sorted(read_chains(chain), key=lambda each: not each.rule_chain.root)
    if chain.endswith(".json"):
        raise Stop(f"There is no file {chain}.", ExitCode.NOT_FOUND)
    return await stored_with_entered(logged_in(reactor), chain)
