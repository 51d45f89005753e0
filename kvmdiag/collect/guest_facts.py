"""One guest's inside, read through its agent: a stack of the same shape as any other.

What is run and read inside is a fixed list; nothing there changes anything. nft is not run
where the kernel has no nf_tables loaded, because running it would load it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from kvmdiag.collect import guest_activity, guest_iproute, guest_proc
from kvmdiag.collect.guest_agent import (
    Agent,
    AgentError,
    AgentNic,
    AgentRefuses,
    Ran,
)
from kvmdiag.collect.guest_tables import TablesUnreadError, read_tables
from kvmdiag.collect.guest_values import checked_name
from kvmdiag.model.guest import Access, Inside
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Address, Stack

_T = TypeVar("_T")
_FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_JUNK = (ValueError, LookupError, TypeError, AttributeError)
"""What a parser raises on hostile input."""

_IP: dict[str, tuple[str, ...]] = {
    "links": ("-j", "-d", "link", "show"),
    "addresses": ("-j", "addr", "show"),
    "routes 4": ("-j", "-d", "-N", "-4", "route", "show", "table", "all"),
    "routes 6": ("-j", "-d", "-N", "-6", "route", "show", "table", "all"),
    "rules 4": ("-j", "-N", "-4", "rule", "show"),
    "rules 6": ("-j", "-N", "-6", "rule", "show"),
    "neighbours": ("-j", "neigh", "show"),
    "proxies": ("-j", "neigh", "show", "proxy"),
}
_SETTINGS = ("/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/bridge")
_SETTING_FILES = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/icmp_echo_ignore_all")
_PROC = ("/proc/net/route", "/proc/net/ipv6_route", "/proc/net/fib_trie", "/proc/net/arp")
_OTHER = (
    "/etc/resolv.conf",
    "/proc/modules",
    "/proc/net/ip_tables_names",
    "/proc/net/ip6_tables_names",
    "/proc/sys/kernel/osrelease",
)
_TUNNELS = frozenset({"vxlan", "geneve", "bareudp"})
_SYS = ("ifindex", "mtu", "flags", "carrier", "operstate")
_RELEASE = re.compile(r"[\w.+-]{1,64}")
_KEYS = ("rp_filter", "forwarding", "accept_local", "src_valid_mark", "arp_ignore", "arp_announce")


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
        self._paths: dict[str, str] = {}
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
            self._fact("sysctls", lambda: guest_proc.sysctls(self._content))
            self._read_tables()
            if self._may_run:
                self._read_activity()
        resolv = self._content.get("/etc/resolv.conf")
        inside = Inside(
            domain=self._domain,
            access=access,
            stack=self._stack.name,
            agent=version[:32],
            resolver=None if resolv is None else guest_proc.resolver(resolv),
        )
        return GuestReading(inside, self._stack, tuple(self._gaps), self._permanent)

    @property
    def _may_run(self) -> bool:
        return {"guest-exec", "guest-exec-status"} <= self._commands

    def _is_full(self) -> bool:
        """Whether there is an ``ip`` that prints JSON; its links are kept."""
        try:
            printed = self._run("ip", _IP["links"])
            links = guest_iproute.links(printed, self._stack.name)
            self._permanent = guest_iproute.permanent_macs(printed)
        except (AgentError, *_JUNK):
            return False
        self._set("links", links)
        return bool(links)

    def _read_full(self) -> None:
        wanted = {key: words for key, words in _IP.items() if key != "links"}
        ran = self._run_all({key: ("ip", words) for key, words in wanted.items()})
        self._read_files((*_SETTING_FILES, *_OTHER))

        def of(key: str) -> str:
            return _printed(ran[key])

        self._fact("addresses", lambda: guest_iproute.addresses(of("addresses")))
        self._fact(
            "routes",
            lambda: (
                *guest_iproute.routes(of("routes 4"), 4),
                *guest_iproute.routes(of("routes 6"), 6),
            ),
        )
        self._fact(
            "policy_rules",
            lambda: (
                *guest_iproute.policy_rules(of("rules 4"), 4),
                *guest_iproute.policy_rules(of("rules 6"), 6),
            ),
        )
        self._fact(
            "neighbours",
            lambda: (
                *guest_iproute.neighbours(of("neighbours")),
                *guest_iproute.neighbours(of("proxies")),
            ),
        )
        if any(link.kind == "bridge" for link in self._stack.links or ()):
            self._fact("fdb", lambda: guest_iproute.fdb(self._run("bridge", ("-j", "fdb", "show"))))
        else:
            self._set("fdb", ())

    def _read_basic(self, nics: Sequence[AgentNic]) -> None:
        names = self._names(nics)
        system = [f"/sys/class/net/{name}/{key}" for name in names for key in _SYS]
        settings = [f"{_SETTINGS[0]}/{n}/{key}" for n in ("all", *names) for key in _KEYS]
        listed = () if self._may_run else settings
        self._read_files((*_PROC, *_SETTING_FILES, *_OTHER, *system, *listed))
        self._fact("links", lambda: guest_proc.links(nics, self._content))
        self._fact("addresses", lambda: guest_proc.addresses(nics))
        mine: tuple[Address, ...] = self._stack.addresses or ()
        self._fact("routes", lambda: guest_proc.routes(self._content, mine))
        self._fact("neighbours", lambda: guest_proc.neighbours(self._content))
        self._set("fdb", ())
        if not self._may_run:
            why = "policy rules are in no file, and no program may be run in the guest"
            self._gaps.append(self._gap("policy_rules", why))
            return
        self._fact(
            "policy_rules",
            lambda: (
                *guest_proc.policy_rules(self._run("ip", ("rule",)), 4),
                *guest_proc.policy_rules(self._run("ip", ("-6", "rule")), 6),
            ),
        )

    def _read_addresses(self, nics: Sequence[AgentNic]) -> None:
        self._fact("links", lambda: guest_proc.links(nics, {}))
        self._fact("addresses", lambda: guest_proc.addresses(nics))
        why = "its agent may tell nothing but addresses"
        for fact in ("routes", "policy_rules", "neighbours", "sysctls", "tables"):
            self._gaps.append(self._gap(fact, why))

    def _read_activity(self) -> None:
        self._fact("sockets", lambda: guest_activity.sockets(self._content))
        self._fact("counters", lambda: guest_activity.counters(self._content))
        self._fact("conntrack", lambda: guest_activity.conntrack(self._content))
        kinds = {link.kind for link in self._stack.links or ()}
        # What a guest without bridges and tunnels cannot have.
        if "bridge" not in kinds:
            self._set("bridge_vlans", ())
            self._set("mdb", ())
        if not kinds & _TUNNELS:
            self._set("tunnels", ())

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
        return self._run if self._may_run else None

    def _read_files(self, paths: Sequence[str]) -> None:
        """Read files into ``_content``; those that are not there are left out."""
        if not self._may_run:
            for path in paths:
                try:
                    self._content[path] = self._agent.read(path)
                except AgentRefuses:
                    continue
                except AgentError:
                    return
            return
        asked = {
            "folders": ("grep", ("-rsH", "", *_SETTINGS)),
            "files": ("grep", ("-sH", "", *paths, *guest_activity.COUNTERS)),
            "sockets": ("grep", guest_activity.LISTENING),
        }
        for ran in self._run_all(asked).values():
            if isinstance(ran, Ran):
                self._content.update(guest_proc.files(ran.out))
        release = self._content.get("/proc/sys/kernel/osrelease", "")
        if _RELEASE.fullmatch(release):
            path = f"/lib/modules/{release}/modules.builtin"
            ran = self._run_all({"": ("grep", ("-sc", "nf_tables.ko", path))})[""]
            if isinstance(ran, Ran):
                self._content["builtin nf_tables"] = ran.out.strip()

    def _run_all(
        self, asked: Mapping[str, tuple[str, Sequence[str]]]
    ) -> dict[str, Ran | AgentError]:
        """Start several programs at once and wait for all."""
        done: dict[str, Ran | AgentError] = {}
        started: dict[str, int] = {}
        for key, (program, arguments) in asked.items():
            try:
                started[key] = self._start(program, arguments)
            except AgentError as error:
                done[key] = error
        for key, pid in started.items():
            try:
                done[key] = self._agent.result(pid)
            except AgentError as error:
                done[key] = error
        return done

    def _run(self, program: str, arguments: Sequence[str]) -> str:
        """What a program prints.

        Raises:
            AgentError: it is not there, or failed.

        """
        return _printed(self._agent.result(self._start(program, arguments)))

    def _start(self, program: str, arguments: Sequence[str]) -> int:
        """Start a program from the first folder that has it."""
        known = self._paths.get(program)
        if known is not None:
            return self._agent.start(known, arguments)
        for folder in _FOLDERS:
            try:
                pid = self._agent.start(f"{folder}/{program}", arguments)
            except AgentRefuses:
                continue
            self._paths[program] = f"{folder}/{program}"
            return pid
        raise AgentRefuses(f"{program} is not installed in the guest, or may not be run")

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


def _printed(ran: Ran | AgentError) -> str:
    if isinstance(ran, AgentError):
        raise ran
    if ran.code:
        complaint = (ran.complaint.strip() or "no message").splitlines()[0]
        raise AgentRefuses(f"a program in the guest failed: {complaint}")
    return ran.out
