"""``kvmdiag trace GUEST dhcp``, ``kvmdiag trace GUEST dns NAME``, ``kvmdiag trace GUEST arp``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from kvmdiag.commands.agents import agents
from kvmdiag.commands.facts import facts, question
from kvmdiag.commands.options import Options
from kvmdiag.commands.terminal import emit, progress
from kvmdiag.commands.trace_outcome import INCONCLUSIVE, NOT_REACHED, REACHED
from kvmdiag.commands.trace_wishes import Wishes
from kvmdiag.errors import KvmdiagError, UsageError
from kvmdiag.model.stack import NAMED_NETNS
from kvmdiag.reports import measure_json, measure_text

if TYPE_CHECKING:
    from kvmdiag.model.measure import Exchange
    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.model.stack import Stack

_NETNS_FILES = Path("/etc/netns")
_LARGEST_FILE = 1 << 16
_SOMEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
"""An address that is nobody's (RFC 5737, RFC 3849): the way there is that of the default route."""


def dhcp(source: str, wishes: Wishes, options: Options) -> int:
    """Follow DISCOVER and OFFER; who names no time waits as long as a server may take."""
    from kvmdiag.probes.dhcp import PATIENCE, follow_dhcp

    snapshot = facts(options)
    patience = PATIENCE if options.timeout == Options.timeout else options.timeout
    with progress("waiting for offers", options):
        found = follow_dhcp(snapshot, source, timeout=patience, on_tap=wishes.on_tap)
    return _told(found, options)


def arp(source: str, address: str | None, wishes: Wishes, options: Options) -> int:
    """Follow the question who has the next hop towards an address; by default the gateway."""
    from kvmdiag.probes.arp import follow_arp
    from kvmdiag.simulate.walk import walk

    snapshot = facts(options)
    wanted = address or gateway_of(snapshot, source, options.version)
    if wanted is None:
        raise UsageError(f"the gateway of {source} is not known; say: trace {source} arp ADDRESS")
    way = walk(snapshot, question(snapshot, source, wanted, options))
    with progress("waiting for the answer", options):
        found = follow_arp(snapshot, way, timeout=options.timeout, on_tap=wishes.on_tap)
    return _told(found, options)


def gateway_of(snapshot: Snapshot, source: str, version: int | None) -> str | None:
    """The source's gateway of that version of IP; without one that of IPv4, else of IPv6."""
    name = source.partition(":")[0]
    stack = next((stack for stack in snapshot.stacks if stack.name == name), None)
    if stack is None:
        return None
    versions = _SOMEWHERE if version is None else (version,)
    return next(filter(None, (_gateway(stack, one) for one in versions)), None)


def dns(source: str, name: str, wishes: Wishes, options: Options) -> int:
    """Follow a query and its answer."""
    from kvmdiag.probes.dns import PORT, follow_dns, wire_name
    from kvmdiag.simulate.walk import walk

    wire_name(name)
    snapshot = facts(options)
    server, why = (
        (wishes.server, None) if wishes.server else resolver(snapshot, source, options.version)
    )
    asked = dataclasses.replace(options, proto="udp", port=PORT)
    way = walk(snapshot, question(snapshot, source, server, asked))
    with progress("waiting for the answer", options):
        found = follow_dns(
            snapshot,
            way,
            name,
            timeout=options.timeout,
            on_tap=wishes.on_tap,
            enter=agents(snapshot, options),
        )
    if why is not None:
        found = _with_remark(found, why)
    return _told(found, options)


def _with_remark(found: Exchange, text: str) -> Exchange:
    import msgspec

    return msgspec.structs.replace(found, remarks=(text, *found.remarks))


def _told(found: Exchange, options: Options) -> int:
    if options.format == "json":
        emit(measure_json.render_exchange(found), options)
    else:
        emit(measure_text.render_exchange(found, quiet=options.quiet), options)
    return {True: REACHED, False: NOT_REACHED, None: INCONCLUSIVE}[found.works]


def resolver(snapshot: Snapshot, source: str, version: int | None = None) -> tuple[str, str | None]:
    """The name server that the source asks, and how that is known when it is a guess.

    Raises:
        UsageError: there is not even a gateway that could be one.

    """
    name = source.partition(":")[0]
    for guest in snapshot.guests or ():
        servers = () if guest.resolver is None else guest.resolver.nameservers
        if guest.stack == name and servers:
            return servers[0], None
    stack = next((stack for stack in snapshot.stacks if stack.name == name), None)
    if stack is not None:
        told = _from_file(stack)
        if told is not None:
            return told, None
        gateway = gateway_of(snapshot, source, version)
        if gateway is not None:
            return gateway, f"which server {name} asks is not known; asked its gateway {gateway}"
    raise UsageError(f"which name server does {source} ask? say --server ADDRESS")


def _from_file(stack: Stack) -> str | None:
    """From the ``resolv.conf`` that ip-netns(8) gives to programs of a named namespace."""
    if stack.netns is None or not stack.netns.startswith(NAMED_NETNS):
        return None
    file = _NETNS_FILES / stack.netns.removeprefix(NAMED_NETNS) / "resolv.conf"
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            lines = opened.read(_LARGEST_FILE).splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            return words[1]
    return None


def _gateway(stack: Stack, version: int) -> str | None:
    from kvmdiag.simulate.facts.addresses import parse_address
    from kvmdiag.simulate.facts.fib import Flow
    from kvmdiag.simulate.facts.stack_view import StackView

    if stack.routes is None or stack.policy_rules is None:
        return None
    try:
        found = StackView(stack).fib.lookup(Flow(dst=parse_address(_SOMEWHERE[version])))
    except KvmdiagError:
        return None
    return None if found is None else found.gateway
