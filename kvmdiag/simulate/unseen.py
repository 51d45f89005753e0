"""Guests whose inside is not seen: what is taken for granted, so that they can be walked.

What was read is kept; only what is missing is put in its place, and ``Stack.assumed`` says
what that is. A snapshot with assumptions is for judging paths, never for keeping.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import NamedTuple

from msgspec.structs import replace

from kvmdiag.model.libvirt import GuestNic, Network
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, NextHop, PolicyRule, Route, Stack
from kvmdiag.simulate.addresses import parse_address

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
_KUBEVIRT = "k6t-"
_USELESS = frozenset({"failed", "incomplete", "none", "noarp"})


class _Plug(NamedTuple):
    """A tap of a guest, in the stack that has it, with what libvirt says of the NIC behind it.

    ``bridge`` is where the tap belongs, also when it is not plugged in there. ``carrier`` is
    false when libvirt has unplugged the cable, which the tap does not show.
    """

    stack: Stack
    tap: Link
    mac: str | None
    bridge: str | None
    carrier: bool


def assume_guests(snapshot: Snapshot) -> Snapshot:
    """The snapshot in which every running guest has a stack that can be walked."""
    named = {stack.name: stack.name for stack in snapshot.stacks if stack.kind == "guest"}
    named |= {i.domain: i.stack for i in snapshot.guests or () if i.stack is not None}
    for domain in snapshot.domains or ():
        if domain.state == "shutoff":
            continue
        nics = {nic.target: nic for nic in domain.nics if nic.target is not None}
        plugs = [
            _plug(snapshot, stack, link, nics[link.name])
            for stack in snapshot.stacks
            if stack.netns is not None
            for link in stack.links or ()
            if link.guest == domain.name and link.name in nics
        ]
        if plugs:
            snapshot = _with_guest(snapshot, domain.name, named.get(domain.name), plugs)
    return snapshot


def _plug(snapshot: Snapshot, stack: Stack, tap: Link, nic: GuestNic) -> _Plug:
    networks = {network.name: network.bridge for network in snapshot.networks or ()}
    bridge = tap.master or nic.bridge or networks.get(nic.source or "")
    mac = nic.mac.lower() if nic.mac else _learnt(stack, tap)
    return _Plug(stack, tap, mac, bridge, nic.link_state != "down")


def _with_guest(
    snapshot: Snapshot, domain: str, stack_name: str | None, plugs: list[_Plug]
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


def _nics(plugs: list[_Plug]) -> Iterator[Link]:
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


def _plugged(stack: Stack, guest: Stack, plugs: list[_Plug]) -> Stack:
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


def _with_addresses(snapshot: Snapshot, guest: Stack, plugs: list[_Plug], said: list[str]) -> Stack:
    """The addresses that DHCP gave its NICs, or by which its neighbours know them."""
    if guest.addresses is not None:
        return guest
    found = []
    for plug in plugs:
        nic = _nic_at(guest, plug)
        for address, why in _addresses_of(snapshot, plug):
            network = _network_of(snapshot, plug, address) or address
            length = ip_network(network, strict=False).prefixlen
            found.append(Address(link=nic, address=address, prefix_length=length))
            said.append(f"{guest.name} has the address {address}: {why}")
    return replace(guest, addresses=tuple(found)) if found else guest


def _addresses_of(snapshot: Snapshot, plug: _Plug) -> Iterator[tuple[str, str]]:
    seen = set()
    for network in snapshot.networks or ():
        for lease in network.leases or ():
            if lease.mac == plug.mac and lease.address not in seen:
                seen.add(lease.address)
                yield lease.address, f"DHCP of network {network.name} has given it away"
    for stack in snapshot.stacks:
        for entry in stack.neighbours or ():
            usable = entry.state not in _USELESS and not entry.proxy
            if entry.mac == plug.mac and usable and entry.address not in seen:
                seen.add(entry.address)
                if not parse_address(entry.address).is_link_local:
                    yield entry.address, f"{stack.name} knows it as its neighbour's"
    if not seen:
        yield from _reserved(snapshot, plug)
        for own in _of_kubevirt(plug):
            yield str(own.ip + 1), f"KubeVirt gives it to the machine behind {plug.bridge}"


def _reserved(snapshot: Snapshot, plug: _Plug) -> Iterator[tuple[str, str]]:
    """What DHCP would have given, where nothing tells what it gave.

    A guest that has no lease of a network that is there has not asked for its address.
    """
    for network in snapshot.networks or ():
        if network.active and network.leases is not None:
            continue
        for kept in network.reservations:
            if kept.mac is not None and kept.mac.lower() == plug.mac:
                yield kept.address, f"DHCP of network {network.name} keeps it for this guest"


def _of_kubevirt(plug: _Plug) -> Iterator[IPv4Interface | IPv6Interface]:
    """The addresses of a bridge that KubeVirt made in a pod for masquerade.

    The machine has the next one, and this for its gateway (pkg/network/dhcp).
    """
    if plug.bridge is not None and plug.bridge.startswith(_KUBEVIRT):
        for entry in plug.stack.addresses or ():
            if entry.link == plug.bridge and entry.scope == "global":
                yield ip_interface(entry.network)


def _network_of(snapshot: Snapshot, plug: _Plug, address: str) -> str | None:
    """The network on the bridge of a tap that the address lies in, by the bridge's address."""
    served = (own for network in _served(snapshot, plug) for own in network.addresses)
    bridged = (
        entry.network
        for entry in plug.stack.addresses or ()
        if entry.link in (plug.bridge, plug.tap.name)
    )
    return next((own for own in (*served, *bridged) if _lies_in(address, own)), None)


def _served(snapshot: Snapshot, plug: _Plug) -> Iterator[Network]:
    """The libvirt networks on the bridge of a tap."""
    for network in snapshot.networks or ():
        if network.bridge is not None and network.bridge == plug.bridge:
            yield network


def _lies_in(address: str, network: str) -> bool:
    return parse_address(address) in ip_network(network, strict=False)


def _with_routes(snapshot: Snapshot, guest: Stack, plugs: list[_Plug], said: list[str]) -> Stack:
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
    snapshot: Snapshot, guest: Stack, plugs: list[_Plug], version: int
) -> tuple[str, str, str] | None:
    """The NIC and the address of the gateway that DHCP tells a guest of, and whose DHCP."""
    for plug in plugs:
        nic = _nic_at(guest, plug)
        mine = [entry.address for entry in guest.addresses or () if entry.link == nic]
        for network in _served(snapshot, plug):
            # In an isolated network DHCP names no gateway.
            for own in network.addresses if network.dhcp and network.mode is not None else ():
                via = ip_interface(own).ip
                if via.version == version and any(_lies_in(address, own) for address in mine):
                    return nic, str(via), f"DHCP of network {network.name}"
        for bridge in _of_kubevirt(plug):
            if bridge.version == version and any(_lies_in(a, str(bridge)) for a in mine):
                return nic, str(bridge.ip), "KubeVirt's DHCP"
    return None


def _own_routes(entry: Address) -> Iterator[Route]:
    network = ip_network(entry.network, strict=False)
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


def _nic_at(guest: Stack, plug: _Plug) -> str:
    here = LinkRef(plug.stack.name, plug.tap.name)
    return next((link.name for link in guest.links or () if link.peer == here), "")


def _learnt(stack: Stack, tap: Link) -> str | None:
    """The MAC address behind a tap, where the bridge has learnt just one."""
    macs = {entry.mac for entry in stack.fdb or () if entry.port == tap.name and not entry.local}
    return macs.pop() if len(macs) == 1 else None


def _unique(name: str, snapshot: Snapshot) -> str:
    taken = {stack.name for stack in snapshot.stacks}
    while name in taken:
        name += "'"
    return name
