"""Firewalls that drop by default, in every program's own shape, and let pass what should."""

from kvmdiag.lab.spec import Nft

from .nat_network import GUESTS, RULES, SERVER, VIRTUAL, host
from .parts import OUTSIDE, Healthy, dnsmasq

_MACHINES = (*GUESTS, OUTSIDE)
_PINGS = (("vm1", "10.0.0.9"), ("vm1", "192.168.122.12"), ("host", "192.168.122.11"))

# ufw's chains (ufw(8), /etc/ufw/before.rules), with the three rules that guests need.
_UFW = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-after-input - [0:0]
:ufw-after-logging-forward - [0:0]
:ufw-not-local - [0:0]
:ufw-user-input - [0:0]
:ufw-user-forward - [0:0]
:ufw-skip-to-policy-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-after-input
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-after-logging-forward
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j DROP
-A ufw-not-local -j DROP
-A ufw-user-input -i virbr0 -p udp -m udp --dport 67 -j ACCEPT
-A ufw-user-input -i virbr0 -p udp -m udp --dport 53 -j ACCEPT
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A ufw-after-input -p udp -m udp --dport 137 -j ufw-skip-to-policy-input
-A ufw-skip-to-policy-input -j DROP
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
-A ufw-user-forward -i virbr0 -o eno1 -j ACCEPT
-A ufw-user-forward -i virbr0 -o virbr0 -j ACCEPT
-A ufw-after-logging-forward -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
COMMIT
*nat
-A POSTROUTING -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
COMMIT
"""  # noqa: E501 - as ufw writes it

# firewalld 1.3 with virbr0 in zone libvirt and eno1 in zone public (src/firewall/core/nftables.py).
_FIREWALLD = """\
table inet firewalld {
    chain mangle_PREROUTING {
        type filter hook prerouting priority mangle + 10; policy accept;
        jump mangle_PREROUTING_ZONES
    }
    chain mangle_PREROUTING_ZONES {
        iifname "virbr0" goto mangle_PRE_libvirt
        goto mangle_PRE_public
    }
    chain mangle_PRE_libvirt { }
    chain mangle_PRE_public { }
    chain filter_PREROUTING {
        type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 addr-unreachable
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        iifname "virbr0" goto filter_IN_libvirt
        goto filter_IN_public
    }
    chain filter_FORWARD_ZONES {
        iifname "virbr0" goto filter_FWD_libvirt
        goto filter_FWD_public
    }
    chain filter_IN_libvirt {
        jump filter_IN_libvirt_allow
        meta l4proto { icmp, ipv6-icmp } accept
        reject with icmpx admin-prohibited
    }
    chain filter_IN_libvirt_allow {
        udp dport 67 accept
        udp dport 547 accept
        tcp dport 53 accept
        udp dport 53 accept
        tcp dport 22 accept
        udp dport 69 accept
    }
    chain filter_FWD_libvirt {
        accept
    }
    chain filter_IN_public {
        tcp dport 22 accept
        meta l4proto { icmp, ipv6-icmp } accept
        reject with icmpx admin-prohibited
    }
    chain filter_FWD_public {
        reject with icmpx admin-prohibited
    }
    chain nat_POSTROUTING {
        type nat hook postrouting priority srcnat + 10; policy accept;
        oifname "eno1" jump nat_POST_public
    }
    chain nat_POST_public { }
}
"""

# Somebody's own ruleset: sets, maps and verdict maps, all three families, policy drop.
_OWN = """\
table inet fw {
    set guests { type ipv4_addr; flags interval; elements = { 192.168.122.0/24, 172.20.0.0/16 } }
    set admins { type ipv4_addr; elements = { 10.0.0.9 } }
    map zones { type ifname : verdict; elements = { "virbr0" : jump from_guests, "lo" : accept } }
    chain from_guests {
        udp dport { 53, 67 } accept
        icmp type echo-request limit rate 100/second accept
        icmp type echo-request accept
    }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname vmap @zones
        ip saddr @admins tcp dport 22 accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ip saddr @guests iifname { "virbr0", "virbr1" } oifname != "virbr1" accept
        counter packets 7 bytes 4200 drop
    }
    chain output {
        type filter hook output priority filter; policy accept;
        oifname "eno1" ip daddr 169.254.0.0/16 drop
    }
    chain post {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr @guests oifname "eno1" masquerade
    }
}
table bridge l2 {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ether type { arp, ip, ip6 } accept
    }
}
table netdev edge {
    chain in {
        type filter hook ingress device "eno1" priority -500; policy accept;
        ip saddr { 203.0.113.0/24, 198.51.100.0/24 } counter drop
    }
}
"""

_LEGACY_DECOYS = (
    ("host", "iptables-legacy -A FORWARD -i virbr0 -j ACCEPT"),
    ("host", "iptables-legacy -A FORWARD -s 203.0.113.0/24 -j DROP"),
    ("host", "iptables-legacy -t nat -A POSTROUTING -s 192.168.99.0/24 -j MASQUERADE"),
    ("host", "ip6tables-legacy -P FORWARD DROP"),
)

CASES = (
    Healthy(
        name="ufw",
        machines=(host(_UFW), *_MACHINES),
        pings=_PINGS,
        silent=(("outside", "192.168.122.11"),),
        virtual=VIRTUAL,
        services=SERVER,
    ),
    Healthy(
        name="firewalld-with-libvirt-zone",
        machines=(host(RULES, _FIREWALLD), *_MACHINES),
        pings=_PINGS,
        virtual=VIRTUAL,
        services=SERVER,
    ),
    Healthy(
        name="own-nft-ruleset",
        machines=(host("", _OWN), *_MACHINES),
        pings=_PINGS,
        decoys=(Nft("host", "add table ip empty\nadd chain ip empty x\n"),),
        services=(("host", dnsmasq("virbr0", "192.168.122.1", "192.168.122.2", "192.168.122.9")),),
    ),
    Healthy(
        name="legacy-beside-nft",
        machines=(host(RULES), *_MACHINES),
        pings=_PINGS,
        commands=_LEGACY_DECOYS,
        virtual=VIRTUAL,
        services=SERVER,
    ),
)
