"""Finds who is meant by the names and addresses a person types."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from ipaddress import ip_address, ip_network

from kvmdiag.errors import UsageError
from kvmdiag.model.packet import IPAddress, Protocol
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, Stack
from kvmdiag.simulate.facts.addresses import parse_address


class UnknownNameError(UsageError):
    """Nothing in the snapshot is called ``name``; it may still be a host name of DNS."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class GuestOffError(UsageError):
    """A machine that is meant is a guest that does not run: no fault of the question's."""

    exit_code = 1


class NoAddressError(UsageError):
    """The destination is a machine without an address, so no packet can be sent to it."""


def resolve(
    snapshot: Snapshot,
    source: str,
    destination: str,
    *,
    proto: Protocol = "icmp",
    port: int | None = None,
    version: int | None = None,
) -> Question:
    """The question "does ``source`` reach ``destination``?".

    Each is a machine (``node1``), one of its NICs (``node1:ens6``), or an address.

    Raises:
        UnknownNameError: the snapshot knows no such machine.
        GuestOffError: it is a guest that is shut off.
        NoAddressError: the destination has no address to send to.
        UsageError: a NIC is unknown, or the two have no IP version in common.
    """
    start = _endpoint(snapshot, source)
    end = _endpoint(snapshot, destination)
    version = _version(start, end, version)
    if end.address is None:
        end = _with_address(snapshot, end, start, version)
    _require_version(snapshot, start, version, destination)
    if proto == "icmp" and version == 6:
        proto = "icmpv6"
    return Question(source=start, destination=end, proto=proto, port=port)


def _endpoint(snapshot: Snapshot, text: str) -> Endpoint:
    """Who ``text`` means; an address is given to the stack that owns it."""
    stacks = {stack.name: stack for stack in snapshot.stacks}
    if text in stacks:
        return Endpoint(text=text, stack=text)
    address = _address(text)
    if address is not None:
        owner = _owner(snapshot, address)
        return Endpoint(text=text, stack=owner, address=str(address))
    name, _, link = text.partition(":")
    if link and name in stacks:
        return Endpoint(text=text, stack=name, link=_link(stacks[name], link))
    for domain in snapshot.domains or ():
        if domain.name in (text, name) and domain.state == "shutoff":
            raise GuestOffError(
                f"guest {domain.name} is shut off, so it neither sends nor takes anything; "
                f"to start it: virsh start {shlex.quote(domain.name)}"
            )
    raise UnknownNameError(text, _unknown(text, stacks))


def _address(text: str) -> IPAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _owner(snapshot: Snapshot, address: IPAddress) -> str | None:
    for stack in snapshot.stacks:
        for entry in stack.addresses or ():
            if parse_address(entry.address) == address and entry.scope != "host":
                return stack.name
    return None


def _link(stack: Stack, name: str) -> str:
    names = [link.name for link in stack.links or ()]
    if stack.links is not None and name not in names:
        raise UsageError(
            f"{stack.name} has no link {name!r}; it has {', '.join(names) or 'none at all'}"
        )
    return name


def _unknown(text: str, stacks: dict[str, Stack]) -> str:
    close = get_close_matches(text, stacks, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    known = ", ".join(stacks)
    return f"no guest, namespace or address {text!r}{hint} (known: {known})"


def _version(start: Endpoint, end: Endpoint, wanted: int | None) -> int:
    """The IP version of the question."""
    named: list[int] = [
        parse_address(e.address).version for e in (start, end) if e.address is not None
    ]
    if wanted is not None:
        named.append(wanted)
    if len(set(named)) > 1:
        raise UsageError(
            f"{start.text} and {end.text} cannot speak to each other: "
            "one is IPv4, the other IPv6; ask for addresses of one version"
        )
    return named[0] if named else 4


def _addresses(snapshot: Snapshot, name: str, version: int) -> list[Address]:
    """Addresses of a stack that others can speak to."""
    entries = snapshot.stack(name).addresses or ()
    return [
        entry
        for entry in entries
        if entry.scope == "global" and parse_address(entry.address).version == version
    ]


def _with_address(snapshot: Snapshot, end: Endpoint, start: Endpoint, version: int) -> Endpoint:
    """The address by which the destination is spoken to.

    On the NIC that was named, else one that shares a network with the source, else the first.
    """
    assert end.stack is not None  # noqa: S101  only machines come without an address
    mine = _addresses(snapshot, end.stack, version)
    if end.link is not None:
        mine = [entry for entry in mine if entry.link == end.link]
    if not mine:
        raise NoAddressError(f"{end.text} has no IPv{version} address to be reached at")
    near = [
        ip_network(entry.network, strict=False)
        for entry in (_addresses(snapshot, start.stack, version) if start.stack else ())
        if start.link is None or entry.link == start.link
    ]
    shared = (e for e in mine if any(parse_address(e.address) in net for net in near))
    chosen = next(shared, mine[0])
    return Endpoint(text=end.text, stack=end.stack, link=end.link, address=chosen.address)


def _require_version(snapshot: Snapshot, start: Endpoint, version: int, destination: str) -> None:
    """A source that speaks the other version only cannot be asked to reach the destination.

    One without any address can: that is a fault, and a walk tells what becomes of it.
    """
    if start.stack is None or _addresses(snapshot, start.stack, version):
        return
    other = 4 if version == 6 else 6
    if _addresses(snapshot, start.stack, other):
        raise UsageError(
            f"{start.text} has no IPv{version} address, so it cannot reach {destination}; "
            f"ask for an IPv{other} address"
        )
