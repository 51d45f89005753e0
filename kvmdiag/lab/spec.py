"""What a practice network is made of, as plain data.

A network says what it should be: machines, links, addresses, routes, settings, rules. The
builder makes it so. A fault says what to change, in steps; it need not say how to undo that,
because mending builds the network's insides anew from this same data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a machine.

    ``peer`` is ``MACHINE:LINK``, the other end of a veth pair; one end names it, and both
    ends are declared, each on its own machine. A tap is the host's end of such a pair.
    ``settings`` are sysctls of this link alone, below ``net.ipv4``: ``conf.proxy_arp`` is
    ``net.ipv4.conf.NAME.proxy_arp``.
    """

    name: str
    kind: Literal["bridge", "veth"] = "veth"
    mac: str
    addresses: tuple[str, ...] = ()
    master: str | None = None
    peer: str | None = None
    mtu: int | None = None
    settings: Mapping[str, str] = msgspec.field(default_factory=dict)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One network namespace.

    ``routes`` are arguments of ``ip route add``; ``rules`` is what iptables-restore reads.
    ``nft`` is what ``nft -f`` reads and ``ipsets`` what ``ipset restore`` reads; where that is
    not to be had, ``rules_without_ipsets`` stand in for ``rules``.
    ``sysctls``, by dotted name, come on top of those that every machine gets.
    """

    name: str
    links: tuple[Link, ...]
    routes: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = msgspec.field(default_factory=dict)
    rules: str = ""
    nft: str = ""
    ipsets: str = ""
    rules_without_ipsets: str = ""


class Ip(msgspec.Struct, frozen=True, tag=True):
    """Lines for ``ip -batch`` in a machine; ``{node1}`` is the namespace of machine node1."""

    machine: str
    lines: str


class Sysctls(msgspec.Struct, frozen=True, tag=True):
    """Settings to write in a machine, by dotted name."""

    machine: str
    values: Mapping[str, str]


class Rules(msgspec.Struct, frozen=True, tag=True):
    """Changes for ``iptables-restore --noflush`` in a machine."""

    machine: str
    text: str


class Nft(msgspec.Struct, frozen=True, tag=True):
    """Commands for ``nft -f`` in a machine."""

    machine: str
    text: str


Step = Ip | Sysctls | Rules | Nft


class Shell(msgspec.Struct, frozen=True, tag=True):
    """What a shell does in a practice network with real guests.

    In a machine that is a namespace it sees the files of the network's own libvirt, so that
    plain ``virsh`` speaks to that one; in a guest the agent runs it.
    """

    machine: str
    text: str


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something to get wrong in a practice network.

    ``check`` is the id of the check that should find it, ``None`` for a decoy: a setting that
    looks wrong and is harmless. ``apart_from`` names faults of the same network that touch
    the same things, so that the two cannot be injected together; one of the two names the other.
    """

    name: str
    machine: str
    summary: str
    check: str | None
    steps: tuple[Step | Shell, ...]
    apart_from: tuple[str, ...] = ()

    @property
    def harmless(self) -> bool:
        """Whether this is a decoy."""
        return self.check is None

    def excludes(self, other: Fault) -> bool:
        """Whether the two cannot be in a network together."""
        return self.name in other.apart_from or other.name in self.apart_from


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A practice network.

    ``hidden`` machines stand for what a host cannot look into; ``example`` are the two ends
    of the path that it is about. ``virtual`` is libvirt's XML of the networks that a libvirt
    would have started here, by name: it tells what was meant.
    """

    name: str
    summary: str
    example: str
    machines: tuple[Machine, ...]
    faults: tuple[Fault, ...]
    host: str = "host"
    hidden: tuple[str, ...] = ("outside",)
    virtual: Mapping[str, str] = msgspec.field(default_factory=dict)

    def fault(self, name: str) -> Fault | None:
        """The fault of that name; a name without ``@MACHINE`` means the first of its kind."""
        exact = (fault for fault in self.faults if fault.name == name)
        kind = (fault for fault in self.faults if fault.name.partition("@")[0] == name)
        return next(exact, None) or next(kind, None)


def is_label(text: str) -> bool:
    """Whether namespaces and files can be named after this."""
    return _LABEL.fullmatch(text) is not None


def namespace(label: str, machine: str) -> str:
    """The name of a machine's network namespace. Machine names hold no dash."""
    return f"kvmdiag-{label}-{machine}"
