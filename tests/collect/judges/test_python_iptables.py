"""What the snapshot says of legacy tables is what python-iptables, which is not ours, reads.

It asks libiptc and the extensions of iptables themselves, and knows nothing of our parser.
"""

from __future__ import annotations

import json
import sys

import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.netfilter import Table

from .python_iptables_meaning import meaning

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
            assert read[chain] == (said["policy"], [meaning(rule) for rule in said["rules"]])


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
