"""The console entry: finds the command, and turns every error into one line and an exit code.

A command's module is imported when that command is asked for, so that ``kvmdiag --help`` and
``kvmdiag explain`` load neither scapy nor libvirt. A module ``kvmdiag.commands.NAME`` has an
``app`` (a :class:`typer.Typer`) whose functions return an exit code, or ``None`` for 0.
"""

from __future__ import annotations

import errno
import inspect
import io
import os
import sys
import traceback
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kvmdiag import __version__
from kvmdiag.commands.options import EVERYWHERE, PATH, parameters
from kvmdiag.errors import InputError, KvmdiagError
from kvmdiag.reports.escape import one_line

COMMANDS = {
    "check": "Say why a path does not work and what cures it.",
    "trace": "Follow a packet hop by hop, predicted and observed.",
    "graph": "Draw the network of this host.",
    "snapshot": "Save all facts to one file, for --snapshot.",
    "diff": "Tell what changed between two snapshots, and what that breaks or cures.",
    "fix": "Carry out the repair plan, verify it, undo it if it fails.",
    "explain": "Tell what a check looks for and why.",
    "lab": "Build, break and mend practice networks.",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells count
PIPE_CLOSED = 141  # 128 + SIGPIPE
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports them when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command of that name, its module imported; ``None`` when there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"kvmdiag.commands.{cmd_name}").app)
        command.name = cmd_name
        _make_plain(command)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the list of the help without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command and hand down the options given before it."""
        if args[0] not in COMMANDS:
            ctx.fail(f"no command {args[0]!r}; there are {', '.join(COMMANDS)}")
        name, command, rest = super().resolve_command(ctx, args)
        given = {
            key: value
            for key, value in ctx.params.items()
            if ctx.get_parameter_source(key).name == "COMMANDLINE"
        }
        known = {parameter.name for parameter in command.params} if command else set()
        for parameter in self.params:
            if parameter.name in given and parameter.name not in known | EVERYWHERE:
                ctx.fail(f"{name} does not take {parameter.opts[0]}")
        ctx.default_map = {name: given}
        return name, command, rest


def _make_plain(command: Any) -> None:
    """Give a command, and those below it, help without boxes (which takes no time to load)."""
    command.rich_markup_mode = None
    command.params = [p for p in command.params if not str(p.name).endswith("_completion")]
    command.context_settings["help_option_names"] = ["-h", "--help"]
    for child in getattr(command, "commands", {}).values():
        _make_plain(child)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kvmdiag {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _program(**_given: Any) -> None:
    """Find out why a virtual machine cannot reach an address, and prove it.

    Options of a command may also stand before it.
    """


_program.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        *parameters(PATH),
        inspect.Parameter(
            "version",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[
                bool,
                typer.Option(
                    "--version", callback=_show_version, is_eager=True, help="Show the version."
                ),
            ],
        ),
    ]
)
_program.__annotations__ = {
    name: parameter.annotation for name, parameter in inspect.signature(_program).parameters.items()
}
app.callback()(_program)


def main(arguments: list[str]) -> int:
    """Run one command line and give its exit code; writes at most one line about an error."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("kvmdiag", list(arguments) or ["--help"]) as context:
            result = command.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _write_no_more()
        return PIPE_CLOSED
    except OSError as error:
        if error.filename is None and error.errno in _CANNOT_WRITE:
            _write_no_more()
            return _complain(InputError(f"cannot write the output: {error.strerror}"))
        return _complain(error)
    except Exception as error:  # noqa: BLE001  # the last resort, so that no user sees a traceback
        return _complain(error)


def _write_no_more() -> None:
    """Keep the interpreter from flushing at its end what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: Exception) -> int:
    """Tell an error in one line on standard error; gives the exit code."""
    if os.environ.get("KVMDIAG_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, KvmdiagError):
        code, message = error.exit_code, str(error)
    elif hasattr(error, "format_message"):  # click's own errors, wherever typer keeps them
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "kvmdiag"
        code, message = 2, f"{error.format_message().rstrip('.')} (see {path} --help)"
    else:
        code = 2
        message = (
            f"{type(error).__name__}: {error}; this is a bug in kvmdiag; "
            "run with KVMDIAG_DEBUG=1 for details"
        )
    print(f"kvmdiag: {one_line(message)}", file=sys.stderr)
    return code


def _open_closed_streams() -> None:
    """Let what was closed (``>&-``) go nowhere, and no other file take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def run() -> None:
    """The console entry."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows no arrows or ticks gets them written out, not a traceback.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))
