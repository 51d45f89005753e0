"""IPv6 beside IPv4, and alone: translated, routed, and on a link of its own.

Public addresses are of 3fff::/20 (RFC 9637): Python takes 2001:db8::/32 for private ones, and
private ones are meant to be translated.
"""

from kvmdiag.lab.spec import Link, Machine

from .parts import FORWARDING, Healthy, bridge, tap

_ON = {f"net.ipv6.conf.{key}.disable_ipv6": "0" for key in ("all", "default", "lo")}
# No duplicate address detection: a tentative address answers nothing for a second.
_ON |= {f"net.ipv6.conf.{key}.accept_dad": "0" for key in ("all", "default")}
_ROUTER = {**_ON, **FORWARDING, "net.ipv6.conf.all.forwarding": "1"}

# As libvirt does for <nat ipv6='yes'/>, and a firewall that lets neighbours be found.
_NFT = """\
table ip6 libvirt_network {
    chain forward {
        type filter hook forward priority filter; policy accept;
        counter jump guest_cross
        counter jump guest_input
        counter jump guest_output
    }
    chain guest_output {
        ip6 saddr fd00:122::/64 iif "virbr0" counter accept
        iif "virbr0" counter reject
    }
    chain guest_input {
        oif "virbr0" ip6 daddr fd00:122::/64 ct state related,established counter accept
        oif "virbr0" counter reject
    }
    chain guest_cross {
        iif "virbr0" oif "virbr0" counter accept
    }
    chain guest_nat {
        type nat hook postrouting priority srcnat; policy accept;
        ip6 saddr fd00:122::/64 ip6 daddr ff02::/16 counter return
        ip6 saddr fd00:122::/64 ip6 daddr != fd00:122::/64 counter masquerade
    }
}
table ip6 filter {
    chain INPUT {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname "lo" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert, echo-request } accept
        udp dport { 53, 547 } iifname "virbr0" accept
    }
}
"""  # noqa: E501 - one set, one line
_MASQUERADE = """\
*nat
-A POSTROUTING -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
COMMIT
"""


def _guest(name: str, number: int, addresses: tuple[str, ...], *gateways: str) -> Machine:
    mac = f"52:54:00:aa:00:{number:02x}"
    return Machine(
        name=name,
        links=(Link(name="eth0", mac=mac, addresses=addresses),),
        routes=tuple(f"default via {gateway} dev eth0" for gateway in gateways),
        sysctls=_ON,
    )


_HOST = Machine(
    name="host",
    links=(
        Link(
            name="eno1",
            mac="52:54:00:10:00:10",
            addresses=("10.0.0.10/24", "fd00:10::10/64", "3fff:10::10/64"),
            peer="outside:lan",
            settings={"conf.rp_filter": "1"},
        ),
        bridge("virbr0", 0x20, "192.168.122.1/24", "fd00:122::1/64", "fe80::1/64"),
        bridge("br6", 0x26, "3fff:60::1/64", "fe80::1/64"),
        tap(1, "virbr0", "dual1"),
        tap(2, "virbr0", "dual2"),
        tap(3, "br6", "six1"),
        tap(4, "br6", "six2"),
    ),
    routes=("default via 10.0.0.1 dev eno1", "default via 3fff:10::1 dev eno1"),
    sysctls=_ROUTER,
    rules=_MASQUERADE,
    nft=_NFT,
)

_DUAL = Healthy(
    name="dual-stack",
    machines=(
        _HOST,
        _guest(
            "dual1", 1, ("192.168.122.11/24", "fd00:122::11/64"), "192.168.122.1", "fd00:122::1"
        ),
        _guest("dual2", 2, ("192.168.122.12/24", "fd00:122::12/64"), "192.168.122.1", "fe80::1"),
        _guest("six1", 3, ("3fff:60::11/64",), "3fff:60::1"),
        _guest("six2", 4, ("3fff:60::12/64",), "fe80::1"),
        Machine(
            name="outside",
            links=(
                Link(
                    name="lan",
                    mac="52:54:00:10:00:01",
                    addresses=("10.0.0.1/24", "3fff:10::1/64", "3fff:10::9/64"),
                ),
            ),
            routes=("3fff:60::/64 via 3fff:10::10",),
            sysctls=_ON,
        ),
    ),
    pings=(
        ("dual1", "10.0.0.1"),
        ("dual1", "3fff:10::9"),
        ("dual2", "3fff:10::9"),
        ("dual1", "fd00:122::12"),
        ("six1", "3fff:10::9"),
        ("six2", "3fff:60::11"),
        ("six2", "3fff:10::9"),
    ),
)

CASES = (_DUAL,)
