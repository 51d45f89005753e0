"""Tables as their own tools read them: iptables-restore and nft -f."""

from __future__ import annotations

from collections.abc import Iterable

from differential.plan import Rule, Table

_BUILT_IN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
}


def restore_text(table: Table) -> str:
    """Input for iptables-restore."""
    policies = {chain.name: chain.policy.upper() for chain in table.chains if chain.hook}
    lines = [f"*{table.name}"]
    lines += [f":{name} {policies.get(name, 'ACCEPT')} [0:0]" for name in _BUILT_IN[table.name]]
    lines += [f":{chain.name} - [0:0]" for chain in table.chains if not chain.hook]
    for chain in table.chains:
        lines += [f"-A {chain.name} {_iptables_rule(rule)}" for rule in chain.rules]
    return "\n".join([*lines, "COMMIT", ""])


def nft_text(table: Table) -> str:
    """Input for nft -f."""
    lines = [f"table {table.family} {table.name} {{"]
    lines += [f"  {line}" for line in table.sets]
    # A chain must be there before it is jumped to.
    for chain in sorted(table.chains, key=lambda chain: chain.hook is not None):
        lines.append(f"  chain {chain.name} {{")
        if chain.hook is not None:
            device = f' device "{chain.device}"' if chain.device else ""
            lines.append(
                f"    type {chain.type} hook {chain.hook}{device} priority {chain.priority};"
                f" policy {chain.policy};"
            )
        lines += [f"    {_nft_rule(rule, table.family)}" for rule in chain.rules]
        lines.append("  }")
    return "\n".join([*_forward_declared(table), *lines, "}", ""])


def _forward_declared(table: Table) -> Iterable[str]:
    yield f"add table {table.family} {table.name}"
    for chain in table.chains:
        if chain.hook is None:
            yield f"add chain {table.family} {table.name} {chain.name}"


def _iptables_rule(rule: Rule) -> str:
    words = [_iptables_match(*match) for match in rule.matches]
    what, *arguments = rule.does
    argument = arguments[0] if arguments else ""
    words.append(
        {
            "accept": "-j ACCEPT",
            "drop": "-j DROP",
            "return": "-j RETURN",
            "reject": f"-j REJECT --reject-with {argument}" if argument else "-j REJECT",
            "jump": f"-j {argument}",
            "goto": f"-g {argument}",
            "mark": f"-j MARK --set-xmark {argument}",
            "notrack": "-j CT --notrack",
            "ctmark": f"-j CONNMARK --set-xmark {argument}",
            "save": "-j CONNMARK --save-mark",
            "restore": "-j CONNMARK --restore-mark",
            "netmap": f"-j NETMAP --to {argument}",
            "masquerade": "-j MASQUERADE",
            "snat": f"-j SNAT --to-source {argument}",
            "dnat": f"-j DNAT --to-destination {argument}",
            "redirect": f"-j REDIRECT --to-ports {argument}" if argument else "-j REDIRECT",
            "count": "",
        }[what]
    )
    return " ".join(word for word in words if word)


def _iptables_match(what: str, value: str, negated: bool) -> str:
    no = "! " if negated else ""
    proto, _, port = value.partition(" ")
    return {
        "iif": f"{no}-i {value}",
        "oif": f"{no}-o {value}",
        "saddr": f"{no}-s {value}",
        "daddr": f"{no}-d {value}",
        "proto": f"{no}-p {value}",
        "dport": f"-p {proto} {no}--dport {port}",
        "sport": f"-p {proto} {no}--sport {port.replace('-', ':')}",
        "icmp": f"-p icmp {no}--icmp-type {value}",
        "syn": f"-p tcp {no}--syn",
        "state": f"-m conntrack {no}--ctstate {value.upper()}",
        "mark": f"-m mark {no}--mark {value}",
        "local": f"-m addrtype {no}--{value}-type LOCAL",
        "physin": f"-m physdev {no}--physdev-in {value}",
        "physout": f"-m physdev {no}--physdev-out {value}",
        "bridged": f"-m physdev {no}--physdev-is-bridged",
        "range": f"-m iprange {no}--src-range {value}",
        "ports": f"-p {proto} -m multiport {no}--dports {port}",
        "ctmark": f"-m connmark {no}--mark {value}",
        "ctdir": f"-m conntrack --ctdir {value.upper()}",
        "ctdst": f"-m conntrack {no}--ctorigdst {value}",
        "ipset": f"-m set {no}--match-set {value}",
        "rpfilter": f"-m rpfilter {value} {'--invert' if negated else ''}",
        "ttl": f"-m ttl {no}--ttl-eq {value}",
        "icmp6": f"-p icmpv6 {no}--icmpv6-type {value}",
        "hl": f"-m hl {no}--hl-eq {value}",
    }[what]


def _nft_rule(rule: Rule, family: str) -> str:
    words = [_nft_match(*match) for match in rule.matches]
    what, *arguments = rule.does
    argument = arguments[0] if arguments else ""
    key, _, elements = argument.partition("|")
    inet = f" {_ip(argument)}" if family == "inet" else ""
    words.append("counter")
    words.append(
        {
            "reject": f"reject with {argument}" if argument else "reject",
            "jump": f"jump {argument}",
            "goto": f"goto {argument}",
            "mark": _nft_mark(argument) if what == "mark" else "",
            "snat": f"snat{inet} to {argument}",
            "dnat": f"dnat{inet} to {argument}",
            "redirect": f"redirect to :{argument}" if argument else "redirect",
            "ctmark": f"ct mark set {argument}",
            "save": "ct mark set meta mark",
            "restore": "meta mark set ct mark",
            "vmap": f"{key} vmap {elements}",
            "dnatmap": f"dnat{' ip' * bool(inet)} to {key} map {elements}",
            "dnatmap6": f"dnat{' ip6' * bool(inet)} to {key} map {elements}",
            "markmap": f"meta mark set {key} map {elements}",
            "count": "",
        }.get(what, what)
    )
    return " ".join(words)


def _ip(address: str) -> str:
    """The word for the protocol an address is of."""
    return "ip6" if "::" in address else "ip"


def _nft_mark(argument: str) -> str:
    value, _, mask = argument.partition("/")
    if not mask:
        return f"meta mark set {value}"
    kept = 0xFFFFFFFF & ~int(mask, 0)
    return (
        f"meta mark set meta mark & {kept:#x} ^ {value}"
        if int(value, 0)
        else (f"meta mark set meta mark & {kept:#x}")
    )


def _nft_match(what: str, value: str, negated: bool) -> str:
    no = "!= " if negated else ""
    proto, _, port = value.partition(" ")
    if what == "mark":
        number, _, mask = value.partition("/")
        left = f"meta mark & {mask}" if mask else "meta mark"
        return f"{left} {'!=' if negated else '=='} {number}"
    if what == "in":
        key, _, elements = value.partition("|")
        return f"{key} {no}{elements}"
    if what in ("saddr", "daddr", "range"):
        side = "saddr" if what == "range" else what
        return f"{_ip(value)} {side} {no}{value}"
    return {
        "iif": f'iifname {no}"{value.replace("+", "*")}"',
        "oif": f'oifname {no}"{value.replace("+", "*")}"',
        "proto": f"meta l4proto {no}{value}",
        "dport": f"{proto} dport {no}{port}",
        "sport": f"{proto} sport {no}{port}",
        "icmp": f"icmp type {no}{value}",
        "syn": f"tcp flags & (fin|syn|rst|ack) {'!=' if negated else '=='} syn",
        "state": f"ct state {no}{{ {value.lower()} }}",
        "local": f"fib {'daddr' if value == 'dst' else 'saddr'} type {no}local",
        "ports": f"{proto} dport {no}{{ {port.replace(':', '-')} }}",
        "ctmark": f"ct mark {no}{value}",
        "ctdir": f"ct direction {value}",
        "ctdst": f"ct original {_ip(value)} daddr {no}{value}",
        "rpfilter": f"fib saddr . iif oif {'eq 0' if negated else '!= 0'}",
        "ttl": f"ip ttl {no}{value}",
        "icmp6": f"icmpv6 type {no}{value}",
        "hl": f"ip6 hoplimit {no}{value}",
    }[what]
