"""The entry point: names of commands and what they are for; a command's module is loaded when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import click

from rpcbroker import __version__
from rpcbroker.cli.stop import ExitCode

COMMANDS = {
    "demo": ("rpcbroker.cli.demo", "Start a broker and a device, call it, and show what happens."),
    "login": ("rpcbroker.cli.login", "Log in to a broker; the other commands then use it."),
    "token": ("rpcbroker.cli.token", "Print an access token for curl and the like."),
    "device": ("rpcbroker.cli.device", "Add, list, import and export devices."),
    "call": ("rpcbroker.cli.call", "Call a device and print its reply."),
    "explain": ("rpcbroker.cli.explain", "Tell what became of a call, and what to do if it failed."),
    "calls": ("rpcbroker.cli.calls", "List calls and what became of them; the newest is the last line."),
    "watch": ("rpcbroker.cli.watch", "Watch calls and devices, as it happens, until Ctrl-C."),
    "cancel": ("rpcbroker.cli.cancel", "Cancel a call that goes on."),
    "bulk": ("rpcbroker.cli.bulk", "Call many devices, and say what did not succeed."),
    "rules": ("rpcbroker.cli.rules", "List, import, check and try out rule chains."),
    "simulate": ("rpcbroker.cli.simulate", "Be a GPIO device, over MQTT, CoAP or HTTP, until Ctrl-C."),
    "key": ("rpcbroker.cli.key", "Add, list and revoke API keys, for scripts and other programs."),
    "provision": ("rpcbroker.cli.provision", "Add, list and remove keys by which devices add themselves."),
    "customer": ("rpcbroker.cli.customer", "Add and list customers, who may use some of the devices."),
    "user": ("rpcbroker.cli.user", "Add and list users; change your own password."),
    "activate": ("rpcbroker.cli.activate", "Choose a password by an activation link, without a browser."),
    "audit": ("rpcbroker.cli.audit", "Show who did what, and how it ended; the newest is the last line."),
    "tenant": ("rpcbroker.cli.tenant", "Add and list tenants, as a system administrator."),
    "sysadmin": ("rpcbroker.cli.sysadmin", "Add and list system administrators, in the store itself."),
    "config": ("rpcbroker.cli.config", "Check and show the broker's configuration."),
    "backup": ("rpcbroker.cli.backup", "Copy the store to FILE, while the broker runs."),
    "restore": ("rpcbroker.cli.restore", "Put the backup FILE in the place of the store."),
    "check": ("rpcbroker.cli.check", "Verify that what is in the store fits together."),
    "doctor": ("rpcbroker.cli.doctor", "Look at everything that the broker needs, and say what to do."),
}
"""Name -> module, whose member of the same name is the command, and its first line of help."""

EPILOG = """\b
Exit codes:
  0  it worked
  1  it did not; the text on stderr says why
  2  the command line is wrong
  3  not logged in, or refused
  4  there is no such device, or call, customer, user, key, rule chain
  5  the device is offline
  6  the device did not reply in time

The broker itself is started by twistd: twistd -n rpcbroker --help
"""


class LazyGroup(click.Group):
    """Knows its commands by name and help, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Without click's look at all commands when there is no such one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command '{args[0]}'; there are {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rpcbroker", message="%(prog)s %(version)s")
def cli() -> None:
    """Call devices over HTTP; they answer over MQTT, CoAP or HTTP.

    \b
    rpcbroker demo                     see it work; nothing is left behind
    rpcbroker login http://HOST:8080   then device add, simulate, call
    """


def main() -> NoReturn:
    """Run the command; what goes wrong is a sentence on stderr and an exit code."""
    try:
        cli.main(prog_name="rpcbroker")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(ExitCode.ERROR)
    except Exception as error:
        click.echo(f"Error: rpcbroker has a fault: {type(error).__name__}: {error}", err=True)
        click.echo("Hint: please report it, with the command that you ran.", err=True)
        sys.exit(ExitCode.ERROR)
    sys.exit(ExitCode.OK)
