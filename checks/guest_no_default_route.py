"""A guest has no route to what lies beyond its own subnet.

Symptom: the guest reaches its subnet only; elsewhere it says "Network is unreachable".
Cause: the default route is missing: it was never configured, DHCP gave no router, or a manual
    change lost it.
Harmless when: the network is isolated, or the NIC is meant for its subnet alone.
Evidence: no route of the guest matches the destination, and on one of its links there is a
    machine that routes: with a default route by that machine the path works.
Fix: ip route add default via GATEWAY dev IF.
Sources: net/ipv4/fib_trie.c (fib_table_lookup), ip-route(8).
"""

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

from kvmdiag.actions.route import AddRoute
from kvmdiag.diagnose.absent import absent_addresses, is_bare
from kvmdiag.diagnose.case import Case, Interface, addresses_of, forwards
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.netfilter import AddressIs, Masquerade, SourceNat
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason


@check(
    severity=Severity.ERROR,
    needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES, Facts.SYSCTLS},
)
def guest_no_default_route(case: Case) -> Iterator[Suspicion]:
    """A guest that has no route, with each neighbour that could be its gateway."""
    stack = case.here
    if case.reason is not Reason.NO_ROUTE or stack is None or stack.name == case.snapshot.host:
        return
    version = case.end.packet.version
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    if any(route.destination == everything for route in stack.routes or ()):
        return
    if _has_lost_a_link(case, stack):
        return
    gateways = sorted(_gateways(case, stack, version), key=lambda found: found[0])
    if not gateways:
        return
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} has no route to {case.end.packet.dst} and no default route",
        evidence=(
            Evidence(
                f"no route to {case.end.packet.dst}; there are: "
                + ("; ".join(_shown_routes(stack, version)) or "none"),
                f"ip route in {stack.name}",
            ),
        ),
        remedies=tuple(
            (AddRoute(stack=stack.name, destination=everything, gateway=gateway, link=link),)
            for _, link, gateway in gateways
        ),
    )


def _has_lost_a_link(case: Case, stack: Stack) -> bool:
    """Whether a NIC is down or has lost its address: its routes went with that, which is first."""
    for link in stack.links or ():
        if link.peer is None:
            continue
        if not link.up and addresses_of(stack, link.name):
            return True
        if is_bare(stack, link) and absent_addresses(case, stack, link):
            return True
    return False


def _shown_routes(stack: Stack, version: int) -> Iterator[str]:
    for route in stack.routes or ():
        if route.version == version and route.table == 254:
            yield route.text


def _gateways(case: Case, stack: Stack, version: int) -> Iterator[tuple[int, str, str]]:
    """Rank, link and address of every machine that could route for this one."""
    for link in stack.links or ():
        if not link.up:
            continue
        own = [a for a in addresses_of(stack, link.name) if a.version == version]
        for segment in case.segments(link):
            for machine, address in case.neighbours_on(*segment):
                if machine.name == stack.name or not any(address.ip in a.network for a in own):
                    continue
                rank = _rank(case, machine, address)
                if rank is not None:
                    yield rank, link.name, str(address.ip)


def _rank(case: Case, machine: Stack, address: Interface) -> int | None:
    """How plainly a machine is the router of this subnet; ``None`` when it is none.

    A router has another network to route to. The best witness is a neighbour that uses it,
    then address translation for the subnet, then that it forwards at all.
    """
    link = next(a.link for a in machine.addresses or () if a.address == str(address.ip))
    elsewhere = any(
        other.link != link and not other.address.startswith(("127.", "::1", "fe80:"))
        for other in machine.addresses or ()
    )
    if not elsewhere or _is_isolated(case, address):
        return None
    used = any(
        hop.gateway == str(address.ip)
        for other in case.stacks
        for route in other.routes or ()
        for hop in route.next_hops
    )
    if used:
        return 0
    if _translates(machine, address):
        return 1
    if not forwards(machine, link, address.version):
        return 4
    return 3 if machine.name == case.snapshot.host else 2


def _is_isolated(case: Case, address: Interface) -> bool:
    """Whether libvirt means this network to have no way out."""
    return any(
        network.mode is None and any(ip_interface(a).ip == address.ip for a in network.addresses)
        for network in case.snapshot.networks or ()
    )


def _translates(machine: Stack, address: Interface) -> bool:
    """Whether a nat rule of this machine is made for the subnet."""
    for table in machine.tables or ():
        for chain in table.chains:
            for rule in chain.rules:
                sources = [part for part in rule.body if isinstance(part, AddressIs)]
                if any(isinstance(part, Masquerade | SourceNat) for part in rule.body) and any(
                    part.side == "src" and not part.negate and _covers(part.networks, address)
                    for part in sources
                ):
                    return True
    return False


def _covers(networks: tuple[str, ...], address: Interface) -> bool:
    return any(
        "-" not in text and address.ip in ip_network(text, strict=False) for text in networks
    )
