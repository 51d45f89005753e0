"""One guest's inside, read through its agent: a stack of the same shape as any other.

What is run and read inside is a fixed list; nothing there changes anything. nft is not run
where the kernel has no nf_tables loaded, because running it would load it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from kvmdiag.collect.guest import activity, bridging, files, iproute, links, proc, rules
from kvmdiag.collect.guest.agent import (
    Agent,
    AgentError,
    AgentNic,
)
from kvmdiag.collect.guest.programs import Programs, printed
from kvmdiag.collect.guest.tables import TablesUnreadError, read_tables
from kvmdiag.collect.guest.values import checked_name
from kvmdiag.model.guest import Access, Inside
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Address, Stack

_JUNK = (ValueError, LookupError, TypeError, AttributeError)
"""What a parser raises on hostile input."""

_TUNNELS = frozenset({"vxlan", "geneve", "bareudp"})
# It is no namespace of the host, and connections are read for an asked path only.
_NOT_OF_GUESTS = frozenset({"netns", "flows"})


@dataclass(frozen=True)
class GuestReading:
    """What came of a guest. ``permanent_macs`` has the hardware's MAC where it is not in use."""

    inside: Inside
    stack: Stack | None = None
    gaps: tuple[Gap, ...] = ()
    permanent_macs: dict[str, str] = field(default_factory=dict)


def read_guest(domain: str, name: str, agent: Agent) -> GuestReading:
    """Read a guest, whose stack is to be called ``name``, as far as its agent lets us."""
    return _Reader(domain, name, agent).read()


class _Reader:
    def __init__(self, domain: str, name: str, agent: Agent) -> None:
        self._domain = domain
        self._agent = agent
        self._gaps: list[Gap] = []
        self._stack = Stack(name=name, kind="guest", netns=None)
        self._programs = Programs(agent)
        self._commands: frozenset[str] = frozenset()
        self._content: dict[str, str] = {}
        self._permanent: dict[str, str] = {}

    def read(self) -> GuestReading:
        try:
            version, self._commands = self._agent.info()
        except AgentError as error:
            gap = self._gap("all", str(error))
            return GuestReading(Inside(domain=self._domain, access="none"), gaps=(gap,))
        access: Access = "addresses"
        if self._may_run and self._is_full():
            access = "full"
            self._read_full()
        else:
            nics = self._nics()
            if self._may_run or "guest-file-read" in self._commands:
                access = "basic"
                self._read_basic(nics)
            else:
                self._read_addresses(nics)
        if access != "addresses":
            self._fact("sysctls", lambda: proc.sysctls(self._content))
            self._read_tables()
            if self._may_run:
                self._read_activity()
        self._name_the_rest(access)
        resolv = self._content.get("/etc/resolv.conf")
        inside = Inside(
            domain=self._domain,
            access=access,
            stack=self._stack.name,
            agent=version[:32],
            resolver=None if resolv is None else proc.resolver(resolv),
        )
        return GuestReading(inside, self._stack, tuple(self._gaps), self._permanent)

    @property
    def _may_run(self) -> bool:
        return {"guest-exec", "guest-exec-status"} <= self._commands

    def _is_full(self) -> bool:
        """Whether there is an ``ip`` that prints JSON; its links are kept."""
        try:
            listing = self._programs.run("ip", iproute.COMMANDS["links"])
            found = iproute.links(listing, self._stack.name)
            self._permanent = iproute.permanent_macs(listing)
        except (AgentError, *_JUNK):
            return False
        self._set("links", found)
        return bool(found)

    def _read_full(self) -> None:
        wanted = {key: words for key, words in iproute.COMMANDS.items() if key != "links"}
        asked = {key: ("ip", words) for key, words in wanted.items()}
        ran = self._programs.run_all({**asked, "nexthops": bridging.COMMANDS["nexthops"]})
        self._read_files(files.OTHERS)

        def of(key: str) -> str:
            return printed(ran[key])

        self._fact("nexthops", lambda: bridging.nexthops(of("nexthops")))
        known = {one.id: one for one in self._stack.nexthops or ()}
        self._fact("addresses", lambda: iproute.addresses(of("addresses")))
        self._fact(
            "routes",
            lambda: (
                *iproute.routes(of("routes 4"), 4, known),
                *iproute.routes(of("routes 6"), 6, known),
            ),
        )
        self._fact(
            "policy_rules",
            lambda: (
                *rules.policy_rules(of("rules 4"), 4),
                *rules.policy_rules(of("rules 6"), 6),
            ),
        )
        self._fact(
            "neighbours",
            lambda: (
                *iproute.neighbours(of("neighbours")),
                *iproute.neighbours(of("proxies")),
            ),
        )
        if not any(route.nexthop for route in self._stack.routes or ()):
            # An old ip knows no such objects, and no route uses one.
            self._gaps = [
                msgspec.structs.replace(gap, expected=gap.fact == "nexthops" or gap.expected)
                for gap in self._gaps
            ]
        self._read_bridging()

    def _read_bridging(self) -> None:
        """What bridges and tunnels know, of a guest that has some."""
        kinds = {link.kind for link in self._stack.links or ()}
        asked = {
            "fdb": kinds & {"bridge", *_TUNNELS},
            "bridge_vlans": "bridge" in kinds,
            "mdb": "bridge" in kinds,
        }
        ran = self._programs.run_all(
            {f: bridging.COMMANDS[f] for f, there in asked.items() if there}
        )

        def told(fact: str, command: str, reader: Callable[[str], tuple[object, ...]]) -> None:
            if command in ran:
                self._fact(fact, lambda: reader(printed(ran[command])))
            else:
                self._set(fact, ())

        told("fdb", "fdb", bridging.fdb)
        told("tunnels", "fdb", bridging.tunnels)
        told("bridge_vlans", "bridge_vlans", bridging.bridge_vlans)
        told("mdb", "mdb", bridging.mdb)

    def _without_bridges(self) -> None:
        """What links of kinds that are not there cannot know."""
        kinds = {link.kind for link in self._stack.links or ()}
        if self._stack.links is None or not kinds.isdisjoint({"bridge", *_TUNNELS}):
            return
        for fact in ("fdb", "tunnels", "bridge_vlans", "mdb"):
            self._set(fact, ())

    def _read_basic(self, nics: Sequence[AgentNic]) -> None:
        names = self._names(nics)
        listed = () if self._may_run else files.settings(names)
        paths = (*links.files(names), *listed)
        self._read_files((*files.ROUTES, *files.OTHERS, *paths))
        self._fact("links", lambda: links.links(nics, self._content, self._stack.name))
        self._fact("addresses", lambda: proc.addresses(nics))
        mine: tuple[Address, ...] = self._stack.addresses or ()
        self._fact("routes", lambda: proc.routes(self._content, mine))
        self._fact("neighbours", lambda: proc.neighbours(self._content))
        self._without_bridges()
        if not self._may_run:
            why = "policy rules are in no file, and no program may be run in the guest"
            self._gaps.append(self._gap("policy_rules", why))
            return
        self._fact(
            "policy_rules",
            lambda: (
                *proc.policy_rules(self._programs.run("ip", ("rule",)), 4),
                *proc.policy_rules(self._programs.run("ip", ("-6", "rule")), 6),
            ),
        )

    def _read_addresses(self, nics: Sequence[AgentNic]) -> None:
        self._fact("links", lambda: links.links(nics, {}, self._stack.name))
        self._fact("addresses", lambda: proc.addresses(nics))

    def _name_the_rest(self, access: Access) -> None:
        """A gap for each fact that nothing was said about yet."""
        told = {gap.fact for gap in self._gaps} | _NOT_OF_GUESTS
        why = {
            "full": "ip and bridge do not tell it",
            "basic": "no file that could be read tells it",
            "addresses": "its agent may tell nothing but addresses",
        }[access]
        for fact in self._stack.__struct_fields__:
            if getattr(self._stack, fact) is None and fact not in told:
                self._gaps.append(self._gap(fact, why))

    def _read_activity(self) -> None:
        self._fact("sockets", lambda: activity.sockets(self._content))
        self._fact("counters", lambda: activity.counters(self._content))
        self._fact("conntrack", lambda: activity.conntrack(self._content))

    def _nics(self) -> list[AgentNic]:
        try:
            return self._agent.nics()
        except AgentError as error:
            self._gaps.append(self._gap("links", str(error)))
            return []

    def _names(self, nics: Sequence[AgentNic]) -> list[str]:
        """Names of NICs that can be part of a path."""
        try:
            return [checked_name(nic.name) for nic in nics if ".." not in nic.name]
        except ValueError:
            return []

    def _read_tables(self) -> None:
        try:
            tables = read_tables(self._content, self._runner())
        except (TablesUnreadError, AgentError) as error:
            self._gaps.append(self._gap("tables", str(error)))
        except (*_JUNK, RecursionError):
            self._gaps.append(self._gap("tables", "its rules are printed in no form that is known"))
        else:
            self._set("tables", tables)

    def _runner(self) -> Callable[[str, Sequence[str]], str] | None:
        return self._programs.run if self._may_run else None

    def _read_files(self, paths: Sequence[str]) -> None:
        programs = self._programs if self._may_run else None
        self._content = files.read(paths, self._agent, programs)

    def _fact(self, fact: str, make: Callable[[], object]) -> None:
        try:
            self._set(fact, make())
        except AgentError as error:
            self._gaps.append(self._gap(fact, str(error)))
        except _JUNK as error:
            self._gaps.append(self._gap(fact, f"the guest's answer makes no sense: {error}"))

    def _set(self, fact: str, value: object) -> None:
        self._stack = msgspec.structs.replace(self._stack, **{fact: value})

    def _gap(self, fact: str, why: str) -> Gap:
        """A gap of the guest's stack, in one line that a terminal does not obey."""
        shown = "".join(c if c.isprintable() else "?" for c in why)[:200]
        help_ = f"let qemu-guest-agent in {self._domain} run programs and read files"
        return Gap(stack=self._stack.name, fact=fact, why=shown, help=help_)
