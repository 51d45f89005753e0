"""A Kubernetes node: Calico's holes, kube-proxy's refusals, and a policy of DROP."""

from kvmdiag.lab.spec import Ip, Link, Machine

from .parts import BRIDGE_NF, ENO1, FORWARDING, OUTSIDE, UP, Healthy

_POD_MAC = "ee:ee:ee:ee:ee:ee"

# kube-proxy and Calico's Felix, shortened to what a packet of a pod can meet.
_RULES = """\
*filter
:FORWARD DROP [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
:cali-FORWARD - [0:0]
:cali-INPUT - [0:0]
:cali-from-wl-dispatch - [0:0]
:cali-to-wl-dispatch - [0:0]
:cali-fw-cali1 - [0:0]
:cali-fw-cali2 - [0:0]
:cali-tw-cali1 - [0:0]
:cali-tw-cali2 - [0:0]
:cali-wl-to-host - [0:0]
-A INPUT -j cali-INPUT
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
-A FORWARD -j cali-FORWARD
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-SERVICES -d 10.96.0.99/32 -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
-A cali-FORWARD -j MARK --set-xmark 0x10000/0x10000
-A cali-INPUT -i cali+ -j cali-wl-to-host
-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-wl-to-host -j cali-from-wl-dispatch
-A cali-wl-to-host -j ACCEPT
-A cali-from-wl-dispatch -i cali1 -g cali-fw-cali1
-A cali-from-wl-dispatch -i cali2 -g cali-fw-cali2
-A cali-from-wl-dispatch -j DROP
-A cali-to-wl-dispatch -o cali1 -g cali-tw-cali1
-A cali-to-wl-dispatch -o cali2 -g cali-tw-cali2
-A cali-to-wl-dispatch -j DROP
-A cali-fw-cali1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-cali1 -m conntrack --ctstate INVALID -j DROP
-A cali-fw-cali1 -p udp -m udp --dport 4789 -j DROP
-A cali-fw-cali1 -j MARK --set-xmark 0x10000/0x10000
-A cali-fw-cali1 -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-cali1 -j DROP
-A cali-fw-cali2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-cali2 -j MARK --set-xmark 0x10000/0x10000
-A cali-fw-cali2 -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-cali2 -j DROP
-A cali-tw-cali1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-cali1 -j MARK --set-xmark 0x10000/0x10000
-A cali-tw-cali1 -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-cali1 -j DROP
-A cali-tw-cali2 -j MARK --set-xmark 0x10000/0x10000
-A cali-tw-cali2 -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-cali2 -j DROP
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-WEB - [0:0]
:KUBE-SEP-WEB - [0:0]
:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j cali-POSTROUTING
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SVC-WEB ! -s 10.233.64.0/18 -j KUBE-MARK-MASQ
-A KUBE-SVC-WEB -j KUBE-SEP-WEB
-A KUBE-SEP-WEB -s 10.233.70.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-WEB -p tcp -m tcp -j DNAT --to-destination 10.233.70.2:80
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A cali-POSTROUTING -j cali-nat-outgoing
-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully
COMMIT
"""  # noqa: E501 - as iptables-save prints it

_IPSETS = """\
create cali40masq-ipam-pools hash:net family inet
add cali40masq-ipam-pools 10.233.64.0/18
create cali40all-ipam-pools hash:net family inet
add cali40all-ipam-pools 10.233.64.0/18
"""
_WITHOUT_IPSETS = _RULES.replace(
    "-m set --match-set cali40masq-ipam-pools src", "-s 10.233.64.0/18"
)
_WITHOUT_IPSETS = _WITHOUT_IPSETS.replace(
    "-m set ! --match-set cali40all-ipam-pools dst", "! -d 10.233.64.0/18"
)


def _pod(number: int) -> Machine:
    return Machine(
        name=f"pod{number}",
        links=(
            Link(
                name="eth0",
                mac=f"52:54:00:bb:00:{number:02x}",
                addresses=(f"10.233.70.{number}/32",),
                mtu=1450,
            ),
        ),
        routes=("169.254.1.1 dev eth0 scope link", "default via 169.254.1.1 dev eth0"),
    )


def _cable(number: int) -> Link:
    return Link(
        name=f"cali{number}",
        mac=_POD_MAC,
        peer=f"pod{number}:eth0",
        mtu=1450,
        settings={"conf.proxy_arp": "1", "neigh.proxy_delay": "0", "conf.rp_filter": "1"},
    )


_NODE = Healthy(
    name="kubernetes-node",
    machines=(
        Machine(
            name="host",
            links=(ENO1, _cable(1), _cable(2)),
            routes=(
                UP,
                "10.233.70.1/32 dev cali1 scope link",
                "10.233.70.2/32 dev cali2 scope link",
                "blackhole 10.233.70.0/26 proto 80",
                "10.233.90.0/26 via 10.0.0.20 dev eno1 proto bird",
            ),
            sysctls={**FORWARDING, **BRIDGE_NF},
            rules=_RULES,
            ipsets=_IPSETS,
            rules_without_ipsets=_WITHOUT_IPSETS,
        ),
        _pod(1),
        _pod(2),
        OUTSIDE,
    ),
    pings=(("pod1", "10.0.0.9"), ("pod1", "10.233.70.2"), ("host", "10.233.70.2")),
    decoys=(
        Ip(
            "host",
            "link add vxlan.calico type vxlan id 4096 dstport 4789 dev eno1\n"
            "link set vxlan.calico mtu 1450 up\n"
            "addr add 10.233.70.0/32 dev vxlan.calico\n"
            "route add 10.233.91.0/26 via 10.233.91.0 dev vxlan.calico onlink\n"
            "neigh add 10.233.91.0 lladdr 66:00:00:00:00:01 dev vxlan.calico nud permanent\n",
        ),
    ),
)

CASES = (_NODE,)
