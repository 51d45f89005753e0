"""What the snapshot says of legacy tables is what python-iptables, which is not ours, reads.

It asks libiptc and the extensions of iptables themselves; the tables below say what each of
their options means in the words of the model (iptables-extensions(8)).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.matches import (
    AddressIs,
    AddressTypeIs,
    BridgePortIs,
    ConntrackStateIs,
    FieldIs,
    IcmpTypeIs,
    InterfaceIs,
    MacIs,
    MarkIs,
    PortIs,
    ProtocolIs,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.model.netfilter import Table
from kvmdiag.model.statements import (
    Accept,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    NoEffect,
    Redirect,
    Reject,
    Return,
    SetLife,
    SetMark,
    SourceNat,
)

RULES = {
    "ip": """*nat
-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.0.2.7:80
-A PREROUTING -p udp -m udp --dport 53 -j DNAT --to-destination 192.0.2.7
-A PREROUTING -p tcp -m tcp --dport 81 -j REDIRECT --to-ports 8081
-A POSTROUTING -s 192.0.2.0/24 ! -d 192.0.2.0/24 -p tcp -j MASQUERADE --to-ports 1024-65535
-A POSTROUTING -s 198.51.100.0/24 -j SNAT --to-source 192.0.2.3
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
*mangle
-A PREROUTING -j MARK --set-xmark 0x5/0xff
-A PREROUTING -j TTL --ttl-set 3
COMMIT
*filter
:FORWARD DROP [0:0]
:MINE - [0:0]
-A INPUT -i lo -j ACCEPT
-A FORWARD ! -s 10.0.0.0/8 -d 192.0.2.0/24 -i eth+ ! -o br0 -p tcp -m tcp --dport 80:90 -j MINE
-A FORWARD -p tcp -m tcp ! --sport 1024:65535 --tcp-flags SYN,ACK SYN -j DROP
-A FORWARD ! -p udp -j MINE
-A FORWARD -p udp -m udp --sport 68 --dport 67 -j ACCEPT
-A FORWARD -p icmp -m icmp --icmp-type 8 -j DROP
-A FORWARD -p icmp -m icmp ! --icmp-type 3/4 -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -m conntrack ! --ctstate INVALID -j ACCEPT
-A FORWARD -m state --state NEW -j MINE
-A FORWARD -p tcp -m multiport --dports 80,443,8000:8080 -j REJECT --reject-with tcp-reset
-A FORWARD -p tcp -m multiport ! --sports 22 -j DROP
-A FORWARD -m mark --mark 0x1/0xff -g MINE
-A FORWARD -m connmark ! --mark 0x7 -j DROP
-A FORWARD -m mac ! --mac-source 02:00:00:00:00:0A -j DROP
-A FORWARD -m addrtype --dst-type LOCAL -j RETURN
-A FORWARD -m physdev --physdev-in vnet+ -j DROP
-A FORWARD -m physdev ! --physdev-out vnet0 -j DROP
-A MINE -m iprange --src-range 192.0.2.1-192.0.2.9 -j REJECT --reject-with icmp-host-prohibited
-A MINE -m iprange ! --dst-range 192.0.2.1-192.0.2.9 -j DROP
-A MINE -m ttl --ttl-lt 5 -j DROP
-A MINE -m limit --limit 5/sec -j LOG --log-prefix here
-A MINE -p gre -j DROP
-A MINE -f -j DROP
-A MINE -m comment --comment "hi there" -j DROP
-A MINE -s 192.0.2.4/32
COMMIT
""",
    "ip6": """*filter
:INPUT DROP [0:0]
:MINE - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT
-A INPUT -s fe80::/10 ! -d 2001:db8::1/128 ! -i br0 -p tcp -m tcp --dport 22 -j MINE
-A FORWARD -p udp -m udp ! --dport 547 -j REJECT --reject-with icmp6-adm-prohibited
-A FORWARD -m mark ! --mark 0x10 -g MINE
-A MINE -m conntrack --ctstate UNTRACKED -j RETURN
COMMIT
""",
}
# Chains with their policies and rules by table, as the namespace it runs in has them.
_DUMP = """
import json, sys, iptc, iptc.easy
family, *names = sys.argv[1:]
kind = iptc.Table6 if family == "ip6" else iptc.Table
print(json.dumps({
    name: {
        chain.name: {
            "policy": chain.get_policy() and chain.get_policy().name,
            "rules": iptc.easy.dump_chain(name, chain.name, ipv6=family == "ip6"),
        }
        for chain in kind(name).chains
    }
    for name in names
}))
"""
_PROTOCOLS = {"ipv6-icmp": "icmpv6", "gre": "47"}


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (one.partition(":") for one in text.split(","))
    return tuple((int(first), int(last or first)) for first, _, last in pairs)


def _ports(side: str) -> Callable[[str, bool], object]:
    return lambda text, no: PortIs(side=side, ranges=_ranges(text), negate=no)


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _masked(text: str) -> dict[str, int]:
    value, _, mask = text.partition("/")
    return {"value": int(value, 0), "mask": int(mask or "0xffffffff", 0)}


def _icmp(text: str, no: bool) -> IcmpTypeIs:
    kind, _, code = text.partition("/")
    return IcmpTypeIs(types=((int(kind), int(code) if code else None),), negate=no)


def _flags(texts: list[str], no: bool) -> TcpFlagsAre:
    mask, flags = (tuple(text.lower().split(",")) for text in texts)
    return TcpFlagsAre(mask=mask, flags=flags, negate=no)


def _states(text: str, no: bool) -> ConntrackStateIs:
    return ConntrackStateIs(states=tuple(text.lower().split(",")), negate=no)


def _words(options: str) -> Callable[[str, bool], object]:
    return lambda text, no: UnknownMatch(text=f"-m {options} {'! ' if no else ''}{text}")


def _interface(direction: str) -> Callable[[str, bool], object]:
    return lambda text, no: InterfaceIs(
        direction=direction, names=(text.replace("+", "*"),), negate=no
    )


def _bridge_port(direction: str) -> Callable[[str, bool], object]:
    return lambda text, no: BridgePortIs(
        direction=direction, names=(text.replace("+", "*"),), negate=no
    )


def _address(side: str) -> Callable[[str, bool], object]:
    return lambda text, no: AddressIs(side=side, networks=(text,), negate=no)


MATCHES: dict[tuple[str, str], Callable[..., object]] = {
    ("", "src"): _address("src"),
    ("", "dst"): _address("dst"),
    ("", "in-interface"): _interface("in"),
    ("", "out-interface"): _interface("out"),
    ("", "protocol"): lambda text, no: ProtocolIs(
        protocols=(_PROTOCOLS.get(text, text),), negate=no
    ),
    ("tcp", "sport"): _ports("src"),
    ("tcp", "dport"): _ports("dst"),
    ("tcp", "tcp-flags"): _flags,
    ("udp", "sport"): _ports("src"),
    ("udp", "dport"): _ports("dst"),
    ("multiport", "sports"): _ports("src"),
    ("multiport", "dports"): _ports("dst"),
    ("icmp", "icmp-type"): _icmp,
    ("icmp6", "icmpv6-type"): _icmp,
    ("conntrack", "ctstate"): _states,
    ("state", "state"): _states,
    ("mark", "mark"): lambda text, no: MarkIs(of="packet", negate=no, **_masked(text)),
    ("connmark", "mark"): lambda text, no: MarkIs(of="connection", negate=no, **_masked(text)),
    ("mac", "mac-source"): lambda text, no: MacIs(side="src", macs=(text.lower(),), negate=no),
    ("addrtype", "dst-type"): lambda text, no: AddressTypeIs(
        side="dst", types=(text.lower(),), negate=no
    ),
    ("physdev", "physdev-in"): _bridge_port("in"),
    ("physdev", "physdev-out"): _bridge_port("out"),
    ("iprange", "src-range"): _address("src"),
    ("iprange", "dst-range"): _address("dst"),
    ("ttl", "ttl-lt"): lambda text, no: FieldIs(
        field="ip ttl", ranges=((0, int(text) - 1),), negate=no
    ),
    ("limit", "limit"): _words("limit --limit"),
}
TARGETS: dict[str, Callable[[dict[str, str]], object]] = {
    "ACCEPT": lambda _: Accept(),
    "DROP": lambda _: Drop(),
    "RETURN": lambda _: Return(),
    "goto": lambda chain: Goto(chain=chain),
    "REJECT": lambda options: Reject(reply=options["reject-with"]),
    "MARK": lambda options: SetMark(of="packet", **_masked(options["set-xmark"])),
    "TTL": lambda options: SetLife(family="ip", value=int(options["ttl-set"])),
    "LOG": lambda options: NoEffect(text=f"-j LOG --log-prefix {options['log-prefix']}"),
    "SNAT": lambda options: SourceNat(first=options["to-source"]),
    "MASQUERADE": lambda options: Masquerade(
        ports=_span(options["to-ports"]) if "to-ports" in options else None
    ),
    "REDIRECT": lambda options: Redirect(ports=_span(options["to-ports"])),
    "DNAT": lambda options: DestinationNat(
        first=options["to-destination"].partition(":")[0],
        ports=_span(options["to-destination"].partition(":")[2])
        if ":" in options["to-destination"]
        else None,
    ),
}


@pytest.mark.parametrize("family", sorted(RULES))
def test_the_snapshot_says_what_python_iptables_reads(host, family):
    """Chains, their policies and hooks, and every rule in its order."""
    program = "iptables" if family == "ip" else "ip6tables"
    done = host.run(f"{program}-legacy-restore", input=RULES[family], check=False)
    if done.returncode and "does not exist" in done.stderr:
        pytest.skip(f"this kernel has no legacy tables: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    names = [line[1:] for line in RULES[family].splitlines() if line.startswith("*")]
    stack = collect(Scope(host=host.path, libvirt=False)).stack("host")
    ours = {t.name: t for t in stack.tables if (t.backend, t.family) == ("iptables-legacy", family)}
    # To open a table makes it, so theirs comes second.
    theirs = json.loads(host.run([sys.executable, "-c", _DUMP, family, *names]).stdout)
    assert sorted(ours) == sorted(theirs)
    for name, chains in theirs.items():
        read = _chains(ours[name])
        assert list(read) == list(chains)
        for chain, said in chains.items():
            assert read[chain] == (said["policy"], [_meaning(rule) for rule in said["rules"]])


def _chains(table: Table) -> dict[str, tuple[str | None, list[tuple[set, list]]]]:
    return {
        chain.name: (
            chain.policy.upper() if chain.hook else None,
            [_split(rule.body) for rule in chain.rules],
        )
        for chain in table.chains
    }


def _split(body) -> tuple[set, list]:
    """What a rule asks, in whatever order, and what it then does."""
    asks = {part for part in body if type(part).__module__.endswith(".matches")}
    return asks, [part for part in body if part not in asks]


def _meaning(rule: dict) -> tuple[set, list]:
    """A rule as python-iptables has it, in the words of the model."""
    rule = dict(rule)
    del rule["counters"]
    rule.pop("comment", None)
    target = rule.pop("target", None)
    asks = set()
    if rule.pop("fragment", False):
        asks.add(FieldIs(field="ip frag-off", ranges=((1, 0x1FFF),), mask=0x1FFF))
    for match, options in rule.items():
        named = (
            {(match, name): value for name, value in options.items()}
            if isinstance(options, dict)
            else {("", match): options}
        )
        asks |= {MATCHES[name](*_negation(value)) for name, value in named.items()}
    return asks, [NoEffect(text="no target") if target is None else _does(target)]


def _negation(value: str | list[str]) -> tuple[str | list[str], bool]:
    """An option's value, and whether a ``!`` stands before it."""
    if isinstance(value, str):
        return value.removeprefix("!"), value.startswith("!")
    if value[0] == "!":
        return (value[1] if len(value) == 2 else value[1:]), True
    return value, False


def _does(target: str | dict) -> object:
    if isinstance(target, str):
        return TARGETS[target]({}) if target in TARGETS else Jump(chain=target)
    ((name, options),) = target.items()
    return TARGETS[name](options)
