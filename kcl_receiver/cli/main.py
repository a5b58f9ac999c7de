"""The command `kcl-receiver`: finds the subcommand, runs it, and turns errors into messages and exit codes.

Messages go to stderr and data to stdout. A subcommand `name` is the click command `name` in `kcl_receiver/cli/name.py`;
its module is imported when it is run and not before, so that help is quick.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import NoReturn

import click

from kcl_receiver import __version__
from kcl_receiver.cli.output import printable
from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EnvironmentProblem,
    ReceiverError,
)

COMMANDS = {
    "demo": "Land a stream on this machine and judge the result: no AWS account, no settings.",
    "run": "Land a stream: supervise the generator and the java daemon.",
    "check": "Say what is wrong with settings, machine, store or stream before anything runs.",
    "command": "Print the command line of the java daemon.",
    "generator": "Run the generator alone: the process that makes blocks out of batches.",
    "status": "Show what is read, stored and checkpointed now.",
    "read": "Read the records: each once, and in order within its shard.",
    "verify": "Prove from footers and ledger that nothing is missing.",
    "recover": "Bring back missing and damaged blocks: from their files, and from the stream.",
    "compact": "Merge small blocks into large ones, with the same ranges and records.",
    "expire": "Remove blocks all of whose records arrived before a time.",
    "followers": "Show who follows the store under a name, or forget one that is gone.",
    "repair": "Put in order what is safe to put in order.",
    "emulator": "Run an embedded AWS for trials: Kinesis, DynamoDB, S3, CloudWatch and STS.",
}
"""Subcommands in the order in which help lists them, with the first sentence of their own help."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"kcl_receiver.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"kcl_receiver.cli.{cmd_name}.{cmd_name} is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was most likely meant."""
        import difflib  # noqa: PLC0415 - only a mistyped command pays for it

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"there is no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all is well; 1 something is amiss; 2 wrong settings or usage; 3 something is missing on this "
    "machine; 4 the store; 5 AWS or the stream; 6 processes do not understand each other; 7 records are lost; 8 the "
    "stream gives others than were stored; 9 nothing is stored yet; 10 an internal error; 130 interrupted.",
)
@click.version_option(__version__, prog_name="kcl-receiver")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Land Amazon Kinesis streams as durable blocks; never checkpoint what is not stored.

    \b
    Examples:
      kcl-receiver demo
      kcl-receiver check --properties landing.properties
      kcl-receiver run --properties landing.properties
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False  # https://no-color.org: for the commands below as well


def run_cli(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are printed on stderr."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        for one in given:
            _check_text(one)
        result = cli.main(given, prog_name="kcl-receiver", standalone_mode=False)
    except ReceiverError as error:
        click.echo(printable(str(error)), err=True)
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has left, as `head` does. Python would complain again while it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_AMISS
        # What no layer below could give a better name to, such as a path that is too long.
        thing = f"{error.filename}: " if error.filename is not None else ""
        click.echo(printable(str(EnvironmentProblem(f"{thing}{error.strerror or error}"))), err=True)
        return EXIT_ENVIRONMENT
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        click.echo(printable(said.getvalue()), nl=False, err=True)
        return error.exit_code
    return result if isinstance(result, int) else EXIT_OK


def _check_text(argument: str) -> None:
    """See that an argument can be a name, a path or a value at all.

    Raises:
        click.UsageError: It is not UTF-8, or has a zero in it.
    """
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError(f"{argument!a} is not UTF-8") from error
    if "\0" in argument:
        raise click.UsageError(f"{argument!r} has a zero byte in it")


def main() -> NoReturn:
    """Run the command line of this process."""
    sys.exit(run_cli())


if __name__ == "__main__":
    main()
