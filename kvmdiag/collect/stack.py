"""All facts of the network namespace the calling thread is in, as one stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kvmdiag.collect import addresses, links, routes
from kvmdiag.collect.links import Attachment
from kvmdiag.collect.netfilter import read_tables
from kvmdiag.collect.netlink import Dumps, Message, read_dumps
from kvmdiag.collect.sysctls import read_sysctls
from kvmdiag.errors import NotReadableError
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Stack, StackKind

_Fact = TypeVar("_Fact")
_HELP = "run as root (sudo)"


@dataclass(frozen=True)
class Reading:
    """A stack, what of it could not be read, and where its cables lead."""

    stack: Stack
    gaps: tuple[Gap, ...]
    attachments: tuple[Attachment, ...] = ()


def read_stack(name: str, kind: StackKind, netns: str) -> Reading:
    """Read the calling thread's namespace; what fails becomes ``None`` and a gap."""
    dumps = read_dumps()
    gaps: list[Gap] = []

    def fact(field: str, needs: tuple[str, ...], make: Callable[[], _Fact]) -> _Fact | None:
        try:
            return _made(dumps, needs, make)
        except routes.UnresolvedNextHop as error:
            help_ = "sysctl net.ipv4.nexthop_compat_mode=1"
            gaps.append(Gap(stack=name, fact=field, why=str(error), help=help_))
        except (OSError, LookupError, ValueError) as error:
            gaps.append(Gap(stack=name, fact=field, why=_line(error), help=_HELP))
        return None

    def of(dump: str) -> tuple[Message, ...]:
        return dumps.messages[dump]

    names = links.names_of(dumps.messages.get("link", ()))
    tables, table_gaps = read_tables(name)
    stack = Stack(
        name=name,
        kind=kind,
        netns=netns,
        links=fact("links", ("link",), lambda: links.links(of("link"))),
        addresses=fact(
            "addresses", ("link", "address"), lambda: addresses.addresses(of("address"), names)
        ),
        routes=fact("routes", ("link", "route"), lambda: routes.routes(of("route"), names)),
        policy_rules=fact("policy_rules", ("rule",), lambda: routes.policy_rules(of("rule"))),
        neighbours=fact(
            "neighbours",
            ("link", "neighbour", "proxy"),
            lambda: addresses.neighbours(of("neighbour"), of("proxy"), names),
        ),
        fdb=fact("fdb", ("link", "fdb"), lambda: addresses.fdb(of("fdb"), names)),
        sysctls=fact("sysctls", (), read_sysctls),
        tables=tables,
    )
    cables = links.attachments(dumps.messages.get("link", ()))
    return Reading(stack, (*gaps, *table_gaps), cables)


def unread_stack(name: str, kind: StackKind, netns: str, error: NotReadableError) -> Reading:
    """A stack that is known to be there and of which nothing could be read."""
    why, _, help_ = str(error).partition(": ")
    gap = Gap(stack=name, fact="all", why=why, help=help_ or _HELP)
    return Reading(Stack(name=name, kind=kind, netns=netns), (gap,))


def _made(dumps: Dumps, needs: tuple[str, ...], make: Callable[[], _Fact]) -> _Fact:
    for need in needs:
        if need in dumps.failures:
            raise ValueError(dumps.failures[need])
    return make()


def _line(error: Exception) -> str:
    if isinstance(error, LookupError):
        return f"the kernel's answer lacks {error}"
    return " ".join(str(error).split()) or type(error).__name__
