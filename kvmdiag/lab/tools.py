"""The programs that build practice networks, run in the namespace of the calling thread.

Each function raises LabError with the first line that its program complains with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from kvmdiag.errors import LabError
from kvmdiag.lab.spec import namespace
from kvmdiag.model.stack import NAMED_NETNS
from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import ProgramMissing, run


def inside(label: str, machine: str) -> AbstractContextManager[None]:
    """Be in a machine for a while."""
    return entered(NAMED_NETNS + namespace(label, machine))


def program(argv: tuple[str, ...], doing: str, text: str | None = None) -> str:
    """Run a program; its output. ``doing`` is what the error begins with."""
    done = run(argv, input=text)
    if done.returncode:
        complaint = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise LabError(f"{doing}: {complaint}")
    return done.stdout


def ip(lines: Iterable[str], doing: str) -> None:
    """Lines for ``ip -batch``."""
    text = "\n".join(lines)
    if text:
        program(("ip", "-batch", "-"), f"{doing}: ip", text + "\n")


def listed(doing: str, *what: str) -> list[list[dict[str, Any]]]:
    """What ``ip`` lists, with all details: the links, the rules, whatever is asked for."""
    text = program(("ip", "-d", "-j", "-batch", "-"), f"{doing}: ip", "\n".join([*what, ""]))
    return [json.loads(line) for line in text.splitlines()]


def iptables(rules: str, machine: str) -> None:
    """Changes for ``iptables-restore --noflush``."""
    program(("iptables-nft-restore", "--noflush"), f"{machine}: iptables", rules)


def nft(commands: str, machine: str) -> None:
    """Commands for ``nft -f``."""
    program(("nft", "-f", "-"), f"{machine}: nft", commands)


def has_ipsets() -> bool:
    """Whether this system and its kernel have any."""
    try:
        return run(("ipset", "list", "-n")).returncode == 0
    except ProgramMissing:
        return False
