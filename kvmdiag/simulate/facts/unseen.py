"""Guests whose inside is not seen: what is taken for granted, so that they can be walked.

What was read is kept; only what is missing is put in its place, and ``Stack.assumed`` says
what that is. A snapshot with assumptions is for judging paths, never for keeping.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, NextHop, PolicyRule, Route, Stack
from kvmdiag.simulate.facts.addresses import parse_network
from kvmdiag.simulate.facts.plugs import Plug, addresses_of, gateway_of, network_of, plug_of

_LOCAL, _MAIN, _DEFAULT = 255, 254, 253
_RULES = tuple(
    PolicyRule(priority=priority, version=version, table=table)
    for version in (4, 6)
    for priority, table in ((0, _LOCAL), (32766, _MAIN), (32767, _DEFAULT))
)
_NEEDED = {
    "links": "links",
    "addresses": "addresses",
    "routes": "routes",
    "policy_rules": "policy rules",
    "sysctls": "settings",
    "tables": "netfilter rules",
}
# In the place of a default route that nobody told of: what comes this far cannot be told.
_NO_GATEWAY_KNOWN = ("to stand for a gateway that is not known",)


def assume_guests(snapshot: Snapshot) -> Snapshot:
    """The snapshot in which every running guest has a stack that can be walked."""
    named = {stack.name: stack.name for stack in snapshot.stacks if stack.kind == "guest"}
    named |= {i.domain: i.stack for i in snapshot.guests or () if i.stack is not None}
    for domain in snapshot.domains or ():
        if domain.state == "shutoff":
            continue
        nics = {nic.target: nic for nic in domain.nics if nic.target is not None}
        plugs = [
            plug_of(snapshot, stack, link, nics[link.name])
            for stack in snapshot.stacks
            if stack.netns is not None
            for link in stack.links or ()
            if link.guest == domain.name and link.name in nics
        ]
        if plugs:
            snapshot = _with_guest(snapshot, domain.name, named.get(domain.name), plugs)
    return snapshot


def _with_guest(
    snapshot: Snapshot, domain: str, stack_name: str | None, plugs: list[Plug]
) -> Snapshot:
    known = next((stack for stack in snapshot.stacks if stack.name == stack_name), None)
    if known is not None and (known.assumed or _is_complete(known)):
        return snapshot
    guest = known or Stack(name=_unique(domain, snapshot), kind="guest", netns=None)
    if guest.links is None:
        guest = replace(guest, links=tuple(_nics(plugs)))
    said = [f"nothing inside {domain} stops the packet: {_unread(known)} could not be looked into"]
    guest = _with_addresses(snapshot, guest, plugs, said)
    guest = _with_routes(snapshot, guest, plugs, said)
    guest = replace(
        guest,
        policy_rules=_RULES if guest.policy_rules is None else guest.policy_rules,
        neighbours=guest.neighbours or (),
        fdb=guest.fdb or (),
        sysctls={} if guest.sysctls is None else guest.sysctls,
        tables=() if guest.tables is None and not _is_router(guest) else guest.tables,
        assumed=tuple(said),
    )
    others = [stack for stack in snapshot.stacks if stack is not known]
    # A guest without any known address can be asked about; it cannot answer for others.
    if guest.addresses is not None:
        others = [_plugged(stack, guest, plugs) for stack in others]
    return replace(snapshot, stacks=(*others, guest))


def _is_complete(stack: Stack) -> bool:
    return not _missing(stack)


def _missing(stack: Stack) -> list[str]:
    """What a walk needs of a stack and was not read, in plain words."""
    return [words for fact, words in _NEEDED.items() if getattr(stack, fact) is None]


def _unread(guest: Stack | None) -> str:
    """What of a guest is taken for granted: all of it, or what did not come in time."""
    missing = [] if guest is None else _missing(guest)
    return "it" if guest is None or len(missing) == len(_NEEDED) else f"its {', '.join(missing)}"


def _is_router(guest: Stack) -> bool:
    """Whether it is known to pass packets on, which its rules would tell what becomes of.

    Of others it is enough to assume that they let their own packets out and in.
    """
    keys = (key for key, value in (guest.sysctls or {}).items() if value == "1")
    return any(key == "net.ipv4.ip_forward" or key.endswith(".forwarding") for key in keys)


def _nics(plugs: list[Plug]) -> Iterator[Link]:
    """A NIC for each tap, by a name of our own: what the guest calls it is not known."""
    yield Link(index=1, name="lo", type="loopback", mtu=65536)
    for number, plug in enumerate(plugs):
        yield Link(
            index=number + 2,
            name=f"nic{number}",
            mac=plug.mac,
            mtu=plug.tap.mtu,
            carrier=plug.carrier,
            operstate="up" if plug.carrier else "down",
            peer=LinkRef(plug.stack.name, plug.tap.name),
        )


def _plugged(stack: Stack, guest: Stack, plugs: list[Plug]) -> Stack:
    """The stack with its taps tied to the guest's NICs."""
    ends = {link.peer: link.name for link in guest.links or () if link.peer is not None}
    mine = {plug.tap.name for plug in plugs if plug.stack.name == stack.name}
    if not mine:
        return stack
    links = []
    for link in stack.links or ():
        nic = ends.get(LinkRef(stack.name, link.name)) if link.name in mine else None
        links.append(link if nic is None else replace(link, peer=LinkRef(guest.name, nic)))
    return replace(stack, links=tuple(links))


def _with_addresses(snapshot: Snapshot, guest: Stack, plugs: list[Plug], said: list[str]) -> Stack:
    """The addresses that DHCP gave its NICs, or by which its neighbours know them."""
    if guest.addresses is not None:
        return guest
    found = []
    for plug in plugs:
        nic = _nic_at(guest, plug)
        for address, why in addresses_of(snapshot, plug):
            network = network_of(snapshot, plug, address) or address
            length = parse_network(network).prefixlen
            found.append(Address(link=nic, address=address, prefix_length=length))
            said.append(f"{guest.name} has the address {address}: {why}")
    return replace(guest, addresses=tuple(found)) if found else guest


def _with_routes(snapshot: Snapshot, guest: Stack, plugs: list[Plug], said: list[str]) -> Stack:
    """Those the kernel makes for addresses, and a default route by the gateway of DHCP.

    Without such a gateway what is not on the guest's own networks goes nobody knows where.
    """
    if guest.routes is not None or guest.addresses is None or guest.policy_rules is not None:
        return guest
    routes = [route for entry in guest.addresses for route in _own_routes(entry)]
    rules = []
    for version in (4, 6):
        gateway = _gateway(snapshot, guest, plugs, version)
        unknown = _NO_GATEWAY_KNOWN if gateway is None else ()
        rules += [rule for rule in _RULES if rule.version == version and rule.table != _DEFAULT]
        rules.append(PolicyRule(priority=32767, version=version, table=_DEFAULT, unknown=unknown))
        if gateway is None:
            continue
        via = gateway[1]
        everywhere = "0.0.0.0/0" if version == 4 else "::/0"
        hop = NextHop(link=gateway[0], gateway=via)
        routes.append(Route(destination=everywhere, next_hops=(hop,)))
        said.append(f"{guest.name}'s gateway is {via}: {gateway[2]} says so")
    return replace(guest, routes=tuple(routes), policy_rules=tuple(rules))


def _gateway(
    snapshot: Snapshot, guest: Stack, plugs: list[Plug], version: int
) -> tuple[str, str, str] | None:
    """The NIC and the address of the gateway that DHCP tells a guest of, and whose DHCP."""
    for plug in plugs:
        nic = _nic_at(guest, plug)
        mine = [entry.address for entry in guest.addresses or () if entry.link == nic]
        told = gateway_of(snapshot, plug, mine, version)
        if told is not None:
            return nic, *told
    return None


def _own_routes(entry: Address) -> Iterator[Route]:
    network = parse_network(entry.network)
    hop = (NextHop(link=entry.link),)
    yield Route(
        destination=f"{entry.address}/{network.max_prefixlen}",
        table=_LOCAL,
        type="local",
        scope="host",
        protocol="kernel",
        preferred_source=entry.address,
        next_hops=hop,
    )
    if network.prefixlen < network.max_prefixlen:
        yield Route(
            destination=str(network),
            scope="link",
            protocol="kernel",
            preferred_source=entry.address,
            next_hops=hop,
        )


def _nic_at(guest: Stack, plug: Plug) -> str:
    here = LinkRef(plug.stack.name, plug.tap.name)
    return next((link.name for link in guest.links or () if link.peer == here), "")


def _unique(name: str, snapshot: Snapshot) -> str:
    taken = {stack.name for stack in snapshot.stacks}
    while name in taken:
        name += "'"
    return name
