"""Facts of a guest from its ``/proc``, for guests that have no full ``ip``.

Content comes as ``grep -H`` prints it, or file by file. As in ``guest_iproute``, what is not as
expected raises ValueError, LookupError or TypeError, and nothing else.

Source: proc(5); net/ipv4/fib_trie.c fib_route_seq_show, net/ipv6/route.c
rt6_fill_info, net/ipv4/arp.c; resolv.conf(5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from kvmdiag.collect.guest.agent import AgentNic
from kvmdiag.collect.guest.values import checked_ip, checked_mac, checked_name
from kvmdiag.model.guest import Resolver
from kvmdiag.model.stack import Address, Neighbour, NextHop, PolicyRule, Route

_RTF_GATEWAY = 0x2
_RTF_REJECT = 0x200
_RTF_ANYCAST = 0x00100000
_RTF_CACHE = 0x01000000
_RTF_LOCAL = 0x80000000
_MAIN, _LOCAL = 254, 255
_SETTING = 64
_TABLES = {"local": _LOCAL, "main": _MAIN, "default": 253}
_MOST_NAMESERVERS = 16


def files(text: str) -> dict[str, str]:
    """The content of files by path, from the output of ``grep -H '' FILE...``."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        path, colon, rest = line.partition(":")
        if colon:
            found.setdefault(path, []).append(rest)
    return {path: "\n".join(lines) for path, lines in found.items()}


def sysctls(content: Mapping[str, str]) -> dict[str, str]:
    """Settings by dotted name from files below /proc/sys; a dot in a link's name is a slash."""
    found = {}
    for path, text in content.items():
        below = path.removeprefix("/proc/sys/")
        # The key that IPv6 addresses are made from is nobody's business.
        if below == path or len(text) > _SETTING or "stable_secret" in path:
            continue
        found[below.translate(str.maketrans("./", "/."))] = text.strip()
    if "net.ipv4.ip_forward" not in found:
        raise ValueError("there is no net.ipv4.ip_forward")
    return dict(sorted(found.items()))


def addresses(nics: Sequence[AgentNic]) -> tuple[Address, ...]:
    """Addresses as the agent tells them."""
    found = []
    for nic in nics:
        for told in nic.ip_addresses:
            address = ip_address(told.ip_address)
            ip_network(f"{address}/{told.prefix}", strict=False)
            scope = "host" if address.is_loopback else "link" if address.is_link_local else "global"
            found.append(
                Address(
                    link=checked_name(nic.name),
                    address=str(address),
                    prefix_length=told.prefix,
                    scope=scope,
                )
            )
    return tuple(found)


def routes(content: Mapping[str, str], mine: Sequence[Address]) -> tuple[Route, ...]:
    """Routes from /proc/net/route and ipv6_route, with those the kernel makes for ``mine``.

    Raises:
        ValueError: there are tables that these files do not show.

    """
    hidden = [
        line for line in content.get("/proc/net/fib_trie", "").splitlines() if line[:3] == "Id "
    ]
    if hidden:
        raise ValueError("there are routes in tables of their own, which only ip shows")
    found = [_route4(line) for line in content["/proc/net/route"].splitlines()[1:]]
    found += list(_routes6(content.get("/proc/net/ipv6_route", "")))
    return (*found, *(route for address in mine for route in _local_routes(address)))


def neighbours(content: Mapping[str, str]) -> tuple[Neighbour, ...]:
    """Entries from /proc/net/arp."""
    found = []
    for line in content["/proc/net/arp"].splitlines()[1:]:
        address, _kind, flags, mac, _mask, link = line.split()
        complete = int(flags, 16) & 0x6
        found.append(
            Neighbour(
                link=checked_name(link),
                address=checked_ip(address),
                mac=checked_mac(mac) if complete else None,
                state="permanent" if complete & 4 else "stale" if complete else "failed",
            )
        )
    return tuple(found)


def policy_rules(text: str, version: int) -> tuple[PolicyRule, ...]:
    """Rules from ``ip rule`` without JSON, of busybox or of old versions."""
    return tuple(_rule(line, version) for line in text.splitlines() if line.strip())


def resolver(text: str) -> Resolver:
    """What resolv.conf says; what is not understood is left out, as the library does."""
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = [word[:256] for word in line.split() if word.isprintable()]
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return Resolver(
        nameservers=tuple(nameservers[:_MOST_NAMESERVERS]),
        search=tuple(search[:_MOST_NAMESERVERS]),
        options=tuple(options[:_MOST_NAMESERVERS]),
    )


def _route4(line: str) -> Route:
    """One line of /proc/net/route; numbers are in the byte order of x86."""
    link, destination, gateway, flags_, _, _, metric, mask = line.split()[:8]
    flags = int(flags_, 16)
    length = f"{int(mask, 16):032b}".count("1")
    hop = NextHop(
        link=checked_name(link),
        gateway=str(_little(gateway)) if flags & _RTF_GATEWAY else None,
    )
    return Route(
        destination=f"{_little(destination)}/{length}",
        type="unreachable" if flags & _RTF_REJECT else "unicast",
        scope="global" if flags & _RTF_GATEWAY else "link",
        metric=int(metric),
        next_hops=() if flags & _RTF_REJECT else (hop,),
    )


def _little(text: str) -> IPv4Address:
    return IPv4Address(bytes.fromhex(text)[::-1])


def _routes6(text: str) -> Iterator[Route]:
    for line in text.splitlines():
        destination, length, _, _, gateway_, metric, _, _, flags_, link = line.split()
        flags = int(flags_, 16)
        if flags & _RTF_CACHE:
            continue
        address = IPv6Address(bytes.fromhex(destination))
        gateway = IPv6Address(bytes.fromhex(gateway_))
        kind = "anycast" if flags & _RTF_ANYCAST else "local" if flags & _RTF_LOCAL else "unicast"
        kind = "unreachable" if flags & _RTF_REJECT else kind
        via = str(gateway) if flags & _RTF_GATEWAY else None
        hop = NextHop(link=checked_name(link), gateway=via)
        own = kind in ("anycast", "local") or address.is_multicast
        yield Route(
            destination=f"{address}/{int(length, 16)}",
            table=_LOCAL if own else _MAIN,
            type=kind,
            metric=int(metric, 16),
            next_hops=() if kind == "unreachable" else (hop,),
        )


def _local_routes(entry: Address) -> Iterator[Route]:
    """What fib_add_ifaddr puts into the table local for an IPv4 address."""
    network = ip_network(entry.network, strict=False)
    if network.version == 6:
        return
    hop = (NextHop(link=entry.link),)
    wanted = [("local", f"{entry.address}/32")]
    if entry.scope == "host":
        wanted.append(("local", str(network)))
    if network.prefixlen < 31:
        wanted.append(("broadcast", f"{network.broadcast_address}/32"))
    for kind, destination in wanted:
        yield Route(
            destination=destination,
            table=_LOCAL,
            type=kind,
            scope="link" if kind == "broadcast" else "host",
            protocol="kernel",
            preferred_source=entry.address,
            next_hops=hop,
        )


def _rule(line: str, version: int) -> PolicyRule:
    """``32765:	from 10.0.0.0/8 iif eth0 lookup 100``."""
    priority, _, rest = line.partition(":")
    words = rest.split()
    invert = words[:1] == ["not"]
    told: dict[str, str] = {}
    unknown = []
    pending = iter(words[invert:])
    for word in pending:
        if word in ("from", "to", "iif", "oif", "lookup", "fwmark", "goto"):
            told[word] = next(pending, "")
        elif word in ("blackhole", "unreachable", "prohibit", "nop"):
            told["action"] = word
        else:
            unknown.append(word[:32])
    mark, _, mask = told.get("fwmark", "").partition("/")
    source, destination = told.get("from", "all"), told.get("to", "all")
    table = told.get("lookup")
    return PolicyRule(
        priority=int(priority),
        version=version,
        action=told.get("action", "goto" if "goto" in told else "lookup"),
        table=None if table is None else _TABLES[table] if table in _TABLES else int(table),
        source=None if source == "all" else str(ip_network(source)),
        destination=None if destination == "all" else str(ip_network(destination)),
        iif=checked_name(told["iif"]) if "iif" in told else None,
        oif=checked_name(told["oif"]) if "oif" in told else None,
        fwmark=int(mark, 0) if mark else None,
        fwmask=int(mask, 0) if mask else None,
        goto=int(told["goto"]) if "goto" in told else None,
        invert=invert,
        unknown=tuple(unknown),
    )
