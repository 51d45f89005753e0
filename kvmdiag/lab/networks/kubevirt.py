"""A virtual machine of KubeVirt with masquerade, on a Kubernetes node with Calico.

    guest eth0 -- tap0 k6t-eth0 launcher eth0 -- cali... host ens192 -- outside

The pod's namespace translates for the guest, the node translates for the pod. The pod's eth0 has
a /32 and the gateway 169.254.1.1, for which the node, the host here, answers by proxy ARP.
"""

from __future__ import annotations

from kvmdiag.lab.faults import (
    decoy,
    fault,
    forward_policy_drop,
    forwarding_off,
    in_table,
    link_down,
    without_route,
)
from kvmdiag.lab.machines import FORWARDING, bridge, guest, nic, tap
from kvmdiag.lab.spec import Link, Machine, Network, Nft

_CALI = "cali12d4a061371"
_MTU = 1480

# In the launcher: what KubeVirt makes with nft (netpod/masquerade), a guest with no list of ports.
_LAUNCHER_NFT = """\
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "eth0" counter jump KUBEVIRT_PREINBOUND
    }
    chain input {
        type nat hook input priority 100; policy accept;
    }
    chain output {
        type nat hook output priority -100; policy accept;
        ip daddr 127.0.0.1 counter dnat to 10.0.2.2
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.0.2.2 counter masquerade
        oifname "k6t-eth0" counter jump KUBEVIRT_POSTINBOUND
    }
    chain KUBEVIRT_PREINBOUND {
        counter dnat to 10.0.2.2
    }
    chain KUBEVIRT_POSTINBOUND {
        ip saddr 127.0.0.1 counter snat to 10.0.2.1
    }
}
"""

# Felix's chains for one pod, shortened; a packet that a policy accepts bears the mark 0x10000.
_CALICO = f"""\
*filter
:cali-FORWARD - [0:0]
:cali-INPUT - [0:0]
:cali-from-wl-dispatch - [0:0]
:cali-to-wl-dispatch - [0:0]
:cali-fw-{_CALI} - [0:0]
:cali-tw-{_CALI} - [0:0]
:cali-pri-kns.default - [0:0]
:cali-pro-kns.default - [0:0]
:cali-wl-to-host - [0:0]
-A INPUT -j cali-INPUT
-A FORWARD -j cali-FORWARD
-A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -j MARK --set-xmark 0x10000/0x10000
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
-A cali-INPUT -i cali+ -g cali-wl-to-host
-A cali-from-wl-dispatch -i {_CALI} -g cali-fw-{_CALI}
-A cali-from-wl-dispatch -m comment --comment "Unknown interface" -j DROP
-A cali-to-wl-dispatch -o {_CALI} -g cali-tw-{_CALI}
-A cali-to-wl-dispatch -m comment --comment "Unknown interface" -j DROP
-A cali-fw-{_CALI} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-{_CALI} -m conntrack --ctstate INVALID -j DROP
-A cali-fw-{_CALI} -j MARK --set-xmark 0x0/0x10000
-A cali-fw-{_CALI} -p udp -m udp --dport 4789 -j DROP
-A cali-fw-{_CALI} -p ipencap -j DROP
-A cali-fw-{_CALI} -j cali-pro-kns.default
-A cali-fw-{_CALI} -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-{_CALI} -j DROP
-A cali-tw-{_CALI} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-{_CALI} -m conntrack --ctstate INVALID -j DROP
-A cali-tw-{_CALI} -j MARK --set-xmark 0x0/0x10000
-A cali-tw-{_CALI} -j cali-pri-kns.default
-A cali-tw-{_CALI} -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-{_CALI} -j DROP
-A cali-pri-kns.default -j MARK --set-xmark 0x10000/0x10000
-A cali-pri-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-pro-kns.default -j MARK --set-xmark 0x10000/0x10000
-A cali-pro-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-wl-to-host -j cali-from-wl-dispatch
-A cali-wl-to-host -j ACCEPT
COMMIT
*nat
:cali-PREROUTING - [0:0]
:cali-OUTPUT - [0:0]
:cali-POSTROUTING - [0:0]
:cali-fip-dnat - [0:0]
:cali-fip-snat - [0:0]
:cali-nat-outgoing - [0:0]
-A PREROUTING -j cali-PREROUTING
-A OUTPUT -j cali-OUTPUT
-A POSTROUTING -j cali-POSTROUTING
-A cali-PREROUTING -j cali-fip-dnat
-A cali-OUTPUT -j cali-fip-dnat
-A cali-POSTROUTING -j cali-fip-snat
-A cali-POSTROUTING -j cali-nat-outgoing
-A cali-nat-outgoing {{pools}} -j MASQUERADE
COMMIT
"""  # noqa: E501

_POOLS = (
    "-m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst"
)
_IPSETS = """\
create cali40all-ipam-pools hash:net family inet
add cali40all-ipam-pools 10.233.64.0/18
create cali40masq-ipam-pools hash:net family inet
add cali40masq-ipam-pools 10.233.64.0/18
"""

_HOST = Machine(
    name="host",
    links=(
        nic("ens192", "00:50:56:07:78:01", "10.7.120.1/21", peer="outside:lan"),
        Link(
            name=_CALI,
            mac="ee:ee:ee:ee:ee:ee",
            mtu=_MTU,
            peer="launcher:eth0",
            settings={"conf.proxy_arp": "1", "conf.rp_filter": "1", "neigh.proxy_delay": "0"},
        ),
    ),
    routes=(
        "default via 10.7.120.254 dev ens192",
        f"10.233.70.50 dev {_CALI} scope link",
        "blackhole 10.233.70.0/26",
    ),
    sysctls=FORWARDING,
    rules=_CALICO.format(pools=_POOLS),
    ipsets=_IPSETS,
    rules_without_ipsets=_CALICO.format(pools="-s 10.233.64.0/18 ! -d 10.233.64.0/18"),
)

_LAUNCHER = Machine(
    name="launcher",
    links=(
        nic("eth0", "ea:67:46:33:50:01", "10.233.70.50/32", mtu=_MTU),
        bridge("k6t-eth0", "02:00:00:00:00:00", "10.0.2.1/24", mtu=_MTU),
        tap("tap0", "fe:54:00:02:00:02", "k6t-eth0", "guest:eth0", mtu=_MTU),
    ),
    routes=("169.254.1.1 dev eth0 scope link", "default via 169.254.1.1 dev eth0"),
    sysctls=FORWARDING,
    nft=_LAUNCHER_NFT,
)

_GUEST = guest("guest", nic("eth0", "52:54:00:02:00:02", "10.0.2.2/24", mtu=_MTU), "10.0.2.1")

_OUTSIDE = guest("outside", nic("lan", "00:50:56:07:78:fe", "10.7.120.254/21", "153.3.238.102/32"))

_FAULTS = (
    fault(
        "kubevirt-launcher-nat-missing",
        "the rules of the launcher could not be made",
        Nft("launcher", "delete table ip nat\n"),
    ),
    fault(
        "ip-forward-off@launcher",
        "the pod does not forward for its machine",
        forwarding_off("launcher"),
    ),
    fault("ip-forward-off@host", "the node does not forward", forwarding_off("host")),
    fault(
        "calico-natoutgoing-off",
        "the pool of addresses has natOutgoing off: the node does not translate pods",
        in_table("host", "nat", "-F cali-nat-outgoing"),
    ),
    fault(
        "tap-admin-down", "the guest's tap0 is set down in the pod", link_down("launcher", "tap0")
    ),
    fault(
        "guest-no-default-route",
        "the guest has no default route",
        without_route("guest", "default via 10.0.2.1"),
    ),
    decoy(
        "kubernetes-forward-drop",
        "FORWARD has policy DROP, but Calico's mark is accepted before",
        forward_policy_drop("host"),
    ),
)

NETWORK = Network(
    name="kubevirt",
    summary="a KubeVirt machine behind its pod's and its node's translation, with Calico",
    example="guest 153.3.238.102",
    machines=(_HOST, _LAUNCHER, _GUEST, _OUTSIDE),
    faults=_FAULTS,
)
