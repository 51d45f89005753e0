"""The options that commands share, and how a command asks for them.

A command takes them as one value::

    @app.command()
    @takes(PATH, formats=("text", "json"))
    def check(source: str, *, options: Options) -> int: ...

Each may stand before the command as well as after it, before or after the arguments.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from kvmdiag.errors import UsageError


def _choice(*allowed: str) -> Callable[[str | None], str | None]:
    """A callback that lets only these words pass."""

    def judge(value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    return judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the user set; each field is an option of the same name."""

    lab: Annotated[
        str | None, typer.Option(metavar="NET", help="Run inside this practice network's host.")
    ] = None
    snapshot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Work from this file instead of the live host."),
    ] = None
    connect: Annotated[str, typer.Option(metavar="URI", help="libvirt to ask for guests.")] = (
        "qemu:///system"
    )
    guest_access: Annotated[
        str,
        typer.Option(
            metavar="agent|none",
            callback=_choice("agent", "none"),
            help="How guests may be looked into.",
        ),
    ] = "agent"
    exclude_netns: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave these network namespaces out. May be repeated."),
    ] = None
    timeout: Annotated[
        float,
        typer.Option(metavar="S", min=0.1, max=600, help="Longest wait for a probe, in seconds."),
    ] = 2.0
    proto: Annotated[
        str,
        typer.Option(
            metavar="icmp|tcp|udp",
            callback=_choice("icmp", "tcp", "udp"),
            help="What the packet carries.",
        ),
    ] = "icmp"
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65535, help="Destination port of tcp and udp."),
    ] = None
    ipv4: Annotated[bool, typer.Option("-4", help="Only IPv4.")] = False
    ipv6: Annotated[bool, typer.Option("-6", help="Only IPv6.")] = False
    fail_on: Annotated[
        str,
        typer.Option(
            metavar="error|warning",
            callback=_choice("error", "warning"),
            help="The least severity that makes the exit code 1.",
        ),
    ] = "error"
    format: Annotated[str, typer.Option(metavar="NAME", help="How to print the answer.")] = "text"
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to this file."),
    ] = None
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, show_default=False, help="Tell more; -vv still more."
        ),
    ] = 0
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdict.")] = False
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.ipv4 and self.ipv6:
            raise UsageError("-4 and -6 exclude each other")
        if self.lab is not None and self.snapshot is not None:
            raise UsageError("--lab and --snapshot exclude each other: a file stands for itself")

    @property
    def version(self) -> int | None:
        """4, 6, or ``None`` when both will do."""
        return 4 if self.ipv4 else 6 if self.ipv6 else None


OUTPUT = ("output", "verbose", "quiet", "no_color")
SOURCE = ("lab", "snapshot", "connect", "guest_access", "exclude_netns", "timeout")
QUESTION = ("proto", "port", "ipv4", "ipv6")
PATH = (*SOURCE, *QUESTION, "fail_on", "format", *OUTPUT)

# Options of the program that make no difference to a command and may be given to each.
EVERYWHERE = frozenset({"lab", "verbose", "quiet", "no_color"})


def takes(
    names: tuple[str, ...], *, formats: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command these options of :class:`Options`, handed over as ``options``.

    ``formats`` are the words ``--format`` may have, the default first.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = [
            parameter
            for parameter in inspect.signature(function, eval_str=True).parameters.values()
            if parameter.name != "options"
        ]
        shared = parameters(names, formats)

        @functools.wraps(function)
        def command(**given: Any) -> Any:
            options = Options(**{name: given.pop(name) for name in names})
            return function(**given, options=options)

        signature = inspect.Signature([*own, *shared])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return command

    return decorate


def parameters(names: tuple[str, ...], formats: tuple[str, ...] = ()) -> list[inspect.Parameter]:
    """The options of these names as parameters of a function, for typer to read."""
    hints = get_type_hints(Options, include_extras=True)
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    found = []
    for name in names:
        hint, default = hints[name], defaults[name]
        if name == "format" and formats:
            default = formats[0]
            option = typer.Option(
                metavar="NAME", callback=_choice(*formats), help=f"One of {', '.join(formats)}."
            )
            hint = Annotated[str, option]
        found.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint
            )
        )
    return found
