"""Everything that was read, at one moment, of a host and what belongs to it."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.model.daemons import Daemon
from kvmdiag.model.fact import Fact
from kvmdiag.model.guest import Inside
from kvmdiag.model.libvirt import Domain, Libvirt, Network
from kvmdiag.model.persistent import Persistent
from kvmdiag.model.stack import Stack

SCHEMA: Literal["kvmdiag.snapshot/1"] = "kvmdiag.snapshot/1"


class Gap(Fact, frozen=True, kw_only=True):
    """Something that could not be read: what, of which stack, why, and what would help.

    ``fact`` is the name of the field left ``None`` (``tables``, ``domains`` ...), ``all``
    for a stack of which nothing could be read, ``peers`` when it is not known where some of
    its cables lead, or says in words what is unknown within a fact (``meaning of ip rules``,
    ``ipsets``, ``inside of web``). ``expected`` marks a source that has no part in this host,
    such as libvirt where it does not run: worth knowing, and nothing is missing.
    """

    stack: str | None
    fact: str
    why: str
    help: str
    expected: bool = False


class Snapshot(Fact, frozen=True, kw_only=True):
    """All facts. ``host`` names the stack kvmdiag ran in; ``taken_at`` is UTC, ISO 8601.

    ``guests`` tells how far the inside of each running domain was seen. ``libvirt`` is ``None``
    when its daemon was not asked or did not answer. ``persistent`` is ``None`` for a namespace
    that merely stands for a host, which never boots. ``flows_between`` are the addresses, on
    either side of translations, of the path that was asked; the ``flows`` of the stacks are
    those between any two of them, and say nothing of other paths.
    """

    schema: Literal["kvmdiag.snapshot/1"] = SCHEMA
    tool: str
    taken_at: str
    kernel: str
    host: str = "host"
    stacks: tuple[Stack, ...]
    domains: tuple[Domain, ...] | None = None
    networks: tuple[Network, ...] | None = None
    guests: tuple[Inside, ...] | None = None
    libvirt: Libvirt | None = None
    daemons: tuple[Daemon, ...] | None = None
    persistent: Persistent | None = None
    flows_between: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def stack(self, name: str) -> Stack:
        """The stack of that name.

        Raises:
            KeyError: there is none.

        """
        for stack in self.stacks:
            if stack.name == name:
                return stack
        raise KeyError(name)

    def with_stack(self, changed: Stack) -> Snapshot:
        """A copy in which the stack of that name is ``changed``."""
        return msgspec.structs.replace(
            self,
            stacks=tuple(changed if s.name == changed.name else s for s in self.stacks),
        )
