"""What a check gets: a path that fails, and short ways to the facts about it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from kvmdiag.diagnose.owners import owner_of
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.netfilter import Chain
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.report import Evidence
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Decider, Hop, Reason, RouteRef, RuleRef, Stage, Trace, Walk
from kvmdiag.simulate.facts.view import View

Interface = IPv4Interface | IPv6Interface


class Case:
    """One walk that does not get through, in the snapshot it was made in.

    ``hidden`` names stacks of which the check that asks lacks facts: they are not among
    :attr:`stacks`, and :attr:`here` is ``None`` when the walk ended in one of them. ``view`` is
    the snapshot as the walk asked it, when the caller has it.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        walk: Walk,
        hidden: frozenset[str] = frozenset(),
        view: View | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.walk = walk
        self.hidden = hidden
        self._view = view

    @cached_property
    def view(self) -> View:
        """The snapshot, indexed."""
        return self._view or View(self.snapshot)

    @property
    def trace(self) -> Trace:
        """The direction in which the packet was lost."""
        return self.walk.decisive

    @property
    def end(self) -> Hop:
        """Where it was lost."""
        return self.trace.end

    @property
    def reason(self) -> Reason:
        """Why it was lost, as the walk names it."""
        return self.trace.reason

    @property
    def decider(self) -> Decider | None:
        """What decided it."""
        return self.end.decider

    @property
    def rule(self) -> RuleRef | None:
        """The netfilter rule or policy that decided it, when one did."""
        return self.decider if isinstance(self.decider, RuleRef) else None

    @property
    def filtered(self) -> tuple[Stack, RuleRef] | None:
        """The rule that dropped the packet, or the question for its next hop, and whose it is.

        A question that a bridge drops ends the packet's way in the stack that asked.
        """
        if self.reason is not Reason.NETFILTER or self.rule is None:
            return None
        stack = self.stack(self.rule.stack)
        return None if stack is None else (stack, self.rule)

    @property
    def next_hop(self) -> str | None:
        """The address that nobody answered for, when the way ended at finding a neighbour."""
        if self.end.stage is not Stage.NEIGHBOUR:
            return None
        words = self.end.decision.split()
        return words[2] if words[:2] == ["next", "hop"] else None

    @property
    def here(self) -> Stack | None:
        """The stack in which it was lost."""
        return self.stack(self.end.stack)

    @property
    def ingress(self) -> str | None:
        """The device by which the packet came into the stack in which it was lost."""
        return self.end.in_link or self.end.link

    @cached_property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks that have all the facts the check needs."""
        return tuple(stack for stack in self.snapshot.stacks if stack.name not in self.hidden)

    def stack(self, name: str) -> Stack | None:
        """A stack by name, when it can be seen."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Stack]:
        return {stack.name: stack for stack in self.stacks}

    def routers(self) -> Iterator[tuple[Stack, Hop]]:
        """The stacks that routed the request onwards, each with the hop of that decision."""
        for hop in self.walk.request.hops:
            routed = hop.stage is Stage.ROUTE and isinstance(hop.decider, RouteRef)
            if routed and hop.out_link is not None and hop is not self.walk.request.end:
                stack = self.stack(hop.stack)
                if stack is not None:
                    yield stack, hop

    def is_lost_on(self, host: Stack, bridge: str) -> bool:
        """Whether the packet was lost on the segment of this bridge of the host's."""
        if self.reason not in (Reason.UNRESOLVED, Reason.NO_PORT):
            return False
        if self.end.stack == host.name:
            return bridge in (self.end.link, self.end.out_link)
        return any(
            link.peer is not None
            and link.peer.stack == self.end.stack
            and link.peer.link in (self.end.out_link, self.end.link)
            for link in host.links or ()
            if link.master == bridge
        )

    def guest_cables(self) -> Iterator[tuple[Stack, Link]]:
        """Taps and veth ends that lead to a guest: no address, a machine at the other end."""
        for stack in self.stacks:
            for link in stack.links or ():
                leads = link.guest is not None or link.peer is not None
                ours = stack.name == self.snapshot.host or link.master is not None
                plain = link.kind in ("tun", "veth") and link.vlan is None
                if leads and ours and plain and not addresses_of(stack, link.name):
                    yield stack, link

    def behind(self, link: Link) -> tuple[Interface, ...]:
        """The addresses of the guest's NIC at the other end of a cable."""
        if link.peer is None:
            return ()
        stack = self.stack(link.peer.stack)
        return () if stack is None else addresses_of(stack, link.peer.link)

    def segments(self, link: Link) -> Iterator[tuple[Stack, Link]]:
        """The bridge that a guest's NIC is plugged into, with the stack it is in.

        Of a cable that is plugged in nowhere, every bridge that it could belong to.
        """
        far = None if link.peer is None else self.stack(link.peer.stack)
        port = None if far is None or link.peer is None else link_of(far, link.peer.link)
        if far is None or port is None:
            return
        if port.master is None:
            for bridge in self.homes(far, port):
                yield far, bridge
        else:
            plugged = link_of(far, port.master)
            if plugged is not None:
                yield far, plugged

    def homes(self, stack: Stack, cable: Link) -> Iterator[Link]:
        """The bridges of a stack on which the network of the guest behind a cable is."""
        inside = {address.network for address in self.behind(cable)}
        for bridge in stack.links or ():
            if bridge.kind != "bridge":
                continue
            around = {address.network for address in addresses_of(stack, bridge.name)}
            for port in stack.links or ():
                if port.master == bridge.name:
                    around |= {address.network for address in self.behind(port)}
            if inside & around:
                yield bridge

    def neighbours_on(self, stack: Stack, bridge: Link) -> Iterator[tuple[Stack, Interface]]:
        """Everybody with an address on a bridge: its own stack, and the guests at its ports."""
        for own in addresses_of(stack, bridge.name):
            yield stack, own
        for port in stack.links or ():
            if port.master != bridge.name or port.peer is None:
                continue
            guest = self.stack(port.peer.stack)
            if guest is not None:
                for address in addresses_of(guest, port.peer.link):
                    yield guest, address


def link_of(stack: Stack, name: str | None) -> Link | None:
    """A link of a stack by name."""
    return next((link for link in stack.links or () if link.name == name), None)


@lru_cache(maxsize=65536)
def _interface(text: str) -> Interface:
    """An address from its text; remembered, because every check asks for the same ones."""
    return ip_interface(text)


def addresses_of(stack: Stack, link: str) -> tuple[Interface, ...]:
    """The addresses on one link that others can use (not link-local)."""
    return tuple(
        _interface(address.network)
        for address in stack.addresses or ()
        if address.link == link and address.scope != "link"
    )


def owns(stack: Stack, address: IPAddress | str) -> bool:
    """Whether an address is one of the stack's own."""
    text = str(address)
    return any(entry.address == text for entry in stack.addresses or ())


def number(stack: Stack, sysctl: str) -> int | None:
    """A sysctl's number; ``None`` when it was not read or the kernel does not have it."""
    text = (stack.sysctls or {}).get(sysctl, "")
    return int(text) if text.lstrip("-").isdigit() else None


def conf(link: str, key: str, version: int = 4) -> str:
    """``net.ipvN.conf.LINK.KEY``, with dots in the link's name as sysctl(8) writes them."""
    return f"net.ipv{version}.conf.{link.replace('.', '/')}.{key}"


def forwards(stack: Stack, link: str, version: int = 4) -> bool:
    """Whether packets that come in by ``link`` may be routed onwards."""
    return bool(number(stack, conf(link, "forwarding", version)))


def chain_of(stack: Stack, rule: RuleRef) -> Chain | None:
    """The chain that a rule is in."""
    for table in stack.tables or ():
        if (table.family, table.name, table.backend) == (rule.family, rule.table, rule.backend):
            return table.chain(rule.chain)
    return None


def sysctl_fact(stack: Stack, name: str) -> Evidence:
    """A sysctl as evidence."""
    path = name.translate(str.maketrans("./", "/."))
    value = (stack.sysctls or {}).get(name, "not there")
    return Evidence(f"{name} = {value}", f"/proc/sys/{path} in {stack.name}")


def rule_fact(stack: Stack, rule: RuleRef) -> Evidence:
    """A rule or policy as evidence, with its packet counter where there is one."""
    fact = rule.text
    chain = chain_of(stack, rule)
    if chain is not None:
        counted = chain if rule.index is None else chain.rules[rule.index]
        if counted.packets is not None:
            fact += f" ({counted.packets} packets so far)"
    origin = f"{rule} in {stack.name}"
    owner = owner_of(rule)
    if owner is not None:
        origin += f" ({owner.name}'s, {owner.habit})"
    return Evidence(fact, origin)


def link_fact(stack: Stack, link: Link) -> Evidence:
    """State and master of a link as evidence."""
    state = "up" if link.up else "down"
    master = f"port of {link.master}" if link.master else "no master"
    return Evidence(
        f"{link.name} is {state}, {master}", f"ip -d link show {link.name} in {stack.name}"
    )


def address_fact(stack: Stack, link: str) -> Evidence:
    """The addresses of a link as evidence."""
    listed = ", ".join(str(address) for address in addresses_of(stack, link)) or "no address"
    return Evidence(f"{link} has {listed}", f"ip addr show {link} in {stack.name}")


def place(stack: Stack, link: str) -> str:
    """A link of a stack as findings name it: ``host/mybr0``."""
    return str(LinkRef(stack.name, link))
