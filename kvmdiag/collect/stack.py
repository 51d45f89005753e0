"""All facts of the network namespace the calling thread is in, as one stack."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from kvmdiag.collect.kernel import addresses, bridges, generic, links, routes, traffic_control
from kvmdiag.collect.kernel.counters import read_conntrack, read_counters
from kvmdiag.collect.kernel.links import Attachment
from kvmdiag.collect.kernel.netlink import read_dumps, read_filters
from kvmdiag.collect.kernel.policy_rules import policy_rules
from kvmdiag.collect.kernel.socket_links import read_bound, with_links
from kvmdiag.collect.kernel.sockets import read_sockets
from kvmdiag.collect.kernel.sysctls import read_sysctls
from kvmdiag.collect.kernel.sysfs import addresses_assigned
from kvmdiag.collect.netfilter.tables import read_tables
from kvmdiag.collect.processes.holders import Holders
from kvmdiag.errors import NotReadableError
from kvmdiag.model.link import Link
from kvmdiag.model.link_kinds import Process, TcFilter
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Stack, StackKind
from kvmdiag.system.namespaces import THREAD_NETNS, identity

_Fact = TypeVar("_Fact")
_HELP = "run as root (sudo)"


@dataclass(frozen=True)
class Reading:
    """A stack, what of it could not be read, and where its cables lead."""

    stack: Stack
    gaps: tuple[Gap, ...]
    attachments: tuple[Attachment, ...] = ()


def read_stack(name: str, kind: StackKind, netns: str, holders: Holders | None = None) -> Reading:
    """Read the calling thread's namespace; what fails becomes ``None`` and a gap.

    ``holders`` say which processes hold its taps and sockets.
    """
    # Threads start in the namespace of the one that starts them. Tables are a matter of other
    # programs, which run while this one decodes.
    with ThreadPoolExecutor(max_workers=1) as pool:
        reading_tables = pool.submit(read_tables, name)
        facts = _Facts(name)
        stack = _kernel_facts(Stack(name=name, kind=kind, netns=netns), facts)
        stack = _with_activity(stack, facts, holders or Holders())
        tables, table_gaps = reading_tables.result()
    stack = msgspec.structs.replace(stack, tables=tables)
    return Reading(stack, (*facts.gaps, *table_gaps), links.attachments(facts.links))


def unread_stack(name: str, kind: StackKind, netns: str, error: NotReadableError) -> Reading:
    """A stack that is known to be there and of which nothing could be read."""
    why, _, help_ = str(error).partition(": ")
    gap = Gap(stack=name, fact="all", why=why, help=help_ or _HELP)
    return Reading(Stack(name=name, kind=kind, netns=netns), (gap,))


class _Facts:
    """The kernel's dumps of one stack, and what of it could not be made into facts."""

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self._dumps = read_dumps()
        self.gaps: list[Gap] = []
        self.links = links.raw_links(self._dumps.messages.get("link", ()))
        self.names = links.names_of(self.links)

    def of(self, dump: str) -> tuple[bytes, ...]:
        """The messages of a dump."""
        return self._dumps.messages[dump]

    def make(
        self, fact: str, needs: tuple[str, ...], maker: Callable[[], _Fact], help_: str = _HELP
    ) -> _Fact | None:
        """The fact, or ``None`` and a gap."""
        try:
            for need in needs:
                if need in self._dumps.failures:
                    raise ValueError(self._dumps.failures[need])
            return maker()
        except (OSError, LookupError, ValueError, struct.error) as error:
            self.lack(fact, _line(error), help_)
        return None

    def lack(self, fact: str, why: str, help_: str = _HELP) -> None:
        """Note what could not be read."""
        self.gaps.append(Gap(stack=self._stack, fact=fact, why=why, help=help_))


def _kernel_facts(stack: Stack, facts: _Facts) -> Stack:
    """The stack with all that rtnetlink tells of it, and its sysctls."""
    of, names, make = facts.of, facts.names, facts.make
    nexthops = make("nexthops", ("link", "nexthop"), lambda: routes.nexthops(of("nexthop"), names))
    return msgspec.structs.replace(
        stack,
        links=make("links", ("link",), lambda: _links(facts)),
        addresses=make(
            "addresses", ("link", "address"), lambda: addresses.addresses(of("address"), names)
        ),
        nexthops=nexthops,
        routes=make(
            "routes", ("link", "route"), lambda: routes.routes(of("route"), names, nexthops)
        ),
        policy_rules=make("policy_rules", ("rule",), lambda: policy_rules(of("rule"))),
        neighbours=make(
            "neighbours",
            ("link", "neighbour", "proxy"),
            lambda: addresses.neighbours(of("neighbour"), of("proxy"), names),
        ),
        fdb=make("fdb", ("link", "fdb"), lambda: bridges.fdb(of("fdb"), names)),
        tunnels=make("tunnels", ("link", "fdb"), lambda: bridges.tunnels(of("fdb"), names)),
        bridge_vlans=make(
            "bridge_vlans", ("bridge vlan",), lambda: bridges.vlans(of("bridge vlan"))
        ),
        mdb=make("mdb", ("link", "mdb"), lambda: bridges.mdb(of("mdb"), names)),
        sysctls=make("sysctls", ("link",), lambda: read_sysctls(facts.links)),
    )


def _links(facts: _Facts) -> tuple[Link, ...]:
    """Links with what other sources than the link dump say of them."""
    of, names, make = facts.of, facts.names, facts.make
    queueing = make("qdiscs", ("qdisc",), lambda: traffic_control.qdiscs(of("qdisc"), names))
    hooks = () if queueing is None else queueing[1]

    def filters() -> dict[int, tuple[TcFilter, ...]]:
        if queueing is None:
            raise ValueError("it is not known on which qdiscs there may be some")
        answers = read_filters(hook.asked for hook in hooks)
        return traffic_control.filters(answers, hooks, names)

    extras = links.Extras(
        counters=make("counters of links", ("stats",), lambda: links.counters(of("stats"))),
        qdiscs=None if queueing is None else queueing[0],
        filters=make("filters", (), filters),
        offloads=make("offloads", (), generic.read_offloads, "a kernel from 5.7 on tells them"),
        wireless=make("wireless", (), generic.read_wireless),
        assigned=_assigned(names),
    )
    return links.with_extras(links.links(facts.links), extras)


def _assigned(names: Mapping[int, str]) -> Mapping[int, str] | None:
    """Where MAC addresses are from; of a namespace other than the own nothing can tell."""
    try:
        return addresses_assigned(names)
    except OSError:
        return None


def _with_activity(stack: Stack, facts: _Facts, holders: Holders) -> Stack:
    """The stack with who reads its taps, who listens, and what was counted."""
    here = identity(THREAD_NETNS)

    def readers(tap: str) -> tuple[Process, ...] | None:
        return holders.taps.get((here, tap), () if holders.all_taps else None)

    read = None if stack.links is None else links.with_readers(stack.links, readers)
    sockets = facts.make("sockets", (), lambda: read_sockets(holders.sockets, holders.complete))
    if sockets:
        sockets = with_links(sockets, facts.make("links of sockets", (), read_bound), facts.names)
    held = [one for link in read or () for one in (link.tap, link.macvlan, link.ipvlan) if one]
    if any(one.readers is None for one in held) or any(
        socket.processes is None for socket in sockets or ()
    ):
        facts.lack("processes", "open files of some processes may not be looked at")
    return msgspec.structs.replace(
        stack,
        links=read,
        sockets=sockets,
        conntrack=facts.make("conntrack", (), read_conntrack),
        counters=facts.make("counters", (), read_counters),
    )


def _line(error: Exception) -> str:
    if isinstance(error, LookupError):
        return f"the kernel's answer lacks {error}"
    return " ".join(str(error).split()) or type(error).__name__
