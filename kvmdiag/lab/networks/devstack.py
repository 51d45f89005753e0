"""A DevStack host: floating addresses behind br-ex, two uplinks, Docker beside it.

    instance ens3 -- brq qrouter -- br-ex host eno1 -- outside
                                               eno2 -- outside2

The qrouter namespace gives the instance its floating address, as Neutron's L3 agent does; the
host translates the floating range, which nobody beyond its uplinks knows, to its own address.
A Linux bridge stands in for Open vSwitch.
"""

from __future__ import annotations

from kvmdiag.lab.faults import (
    decoy,
    fault,
    forward_policy_drop,
    forwarding_off,
    in_table,
    without_route,
)
from kvmdiag.lab.machines import FORWARDING, bridge, guest, nic, tap
from kvmdiag.lab.spec import Ip, Machine, Network

_MASQUERADE = "POSTROUTING -s 192.168.42.0/24 -o eno1 -j MASQUERADE"

_DOCKER = """\
*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
"""

# What Neutron's L3 agent makes for a router with a floating address (iptables_manager.py and
# router_info.py of Neutron): a pair of translations, and a mark for what came from outside.
_ROUTER = """\
*mangle
:neutron-l3-agent-PREROUTING - [0:0]
:neutron-l3-agent-mark - [0:0]
-A PREROUTING -j neutron-l3-agent-PREROUTING
-A neutron-l3-agent-PREROUTING -j neutron-l3-agent-mark
-A neutron-l3-agent-mark -i qg-1f2a3b4c-5d -j MARK --set-xmark 0x2/0xffff
COMMIT
*nat
:neutron-l3-agent-OUTPUT - [0:0]
:neutron-l3-agent-POSTROUTING - [0:0]
:neutron-l3-agent-PREROUTING - [0:0]
:neutron-l3-agent-float-snat - [0:0]
:neutron-l3-agent-snat - [0:0]
:neutron-postrouting-bottom - [0:0]
-A PREROUTING -j neutron-l3-agent-PREROUTING
-A OUTPUT -j neutron-l3-agent-OUTPUT
-A POSTROUTING -j neutron-l3-agent-POSTROUTING
-A POSTROUTING -j neutron-postrouting-bottom
-A neutron-l3-agent-OUTPUT -d 192.168.42.20/32 -j DNAT --to-destination 10.1.0.12
-A neutron-l3-agent-POSTROUTING ! -o qg-1f2a3b4c-5d -m conntrack ! --ctstate DNAT -j ACCEPT
-A neutron-l3-agent-PREROUTING -d 169.254.169.254/32 -i qr-+ -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 9697
-A neutron-l3-agent-PREROUTING -d 192.168.42.20/32 -j DNAT --to-destination 10.1.0.12
-A neutron-l3-agent-float-snat -s 10.1.0.12/32 -j SNAT --to-source 192.168.42.20
-A neutron-l3-agent-snat -j neutron-l3-agent-float-snat
-A neutron-l3-agent-snat -o qg-1f2a3b4c-5d -j SNAT --to-source 192.168.42.15
-A neutron-l3-agent-snat -m mark ! --mark 0x2/0xffff -m conntrack --ctstate DNAT -j SNAT --to-source 192.168.42.15
-A neutron-postrouting-bottom -j neutron-l3-agent-snat
COMMIT
"""  # noqa: E501

_HOST = Machine(
    name="host",
    links=(
        nic("eno1", "52:54:00:20:01:32", "192.168.20.132/21", peer="outside:lan"),
        nic("eno2", "52:54:00:08:01:32", "192.168.8.132/24", peer="outside2:lan"),
        bridge("br-ex", "52:54:00:42:00:01", "192.168.42.1/24"),
        bridge("brq6d0c3a51-77", "52:54:00:6d:0c:3a"),
        bridge("docker0", "02:42:ac:11:00:01", "172.17.0.1/16"),
        tap("tap1f2a3b4c-5d", "fe:16:3e:42:00:15", "br-ex", "qrouter:qg-1f2a3b4c-5d"),
        tap("tap6e7f8a9b-0c", "fe:16:3e:01:00:01", "brq6d0c3a51-77", "qrouter:qr-6e7f8a9b-0c"),
        tap("tap9c8d7e6f-1a", "fe:16:3e:01:00:12", "brq6d0c3a51-77", "instance:ens3"),
    ),
    routes=(
        "default via 192.168.18.1 dev eno1 metric 100",
        "default via 192.168.8.1 dev eno2 metric 101",
    ),
    sysctls=FORWARDING,
    rules=f"{_DOCKER}*nat\n-A {_MASQUERADE}\nCOMMIT\n",
)

_QROUTER = Machine(
    name="qrouter",
    links=(
        nic("qg-1f2a3b4c-5d", "fa:16:3e:42:00:15", "192.168.42.15/24", "192.168.42.20/32"),
        nic("qr-6e7f8a9b-0c", "fa:16:3e:01:00:01", "10.1.0.1/26"),
    ),
    routes=("default via 192.168.42.1 dev qg-1f2a3b4c-5d",),
    sysctls=FORWARDING,
    rules=_ROUTER,
)

_INSTANCE = guest("instance", nic("ens3", "fa:16:3e:01:00:12", "10.1.0.12/26"), "10.1.0.1")

# Neither has a route back to the floating range.
_OUTSIDE = (
    guest("outside", nic("lan", "52:54:00:20:00:01", "192.168.18.1/21", "8.8.8.8/32")),
    guest("outside2", nic("lan", "52:54:00:08:00:01", "192.168.8.1/24", "8.8.8.8/32")),
)

_FAULTS = (
    fault(
        "masquerade-pinned-to-wrong-egress",
        "the default route has moved to eno2; the rule that translates names eno1",
        Ip(
            "host",
            "route del default via 192.168.18.1 dev eno1 metric 100\n"
            "route add default via 192.168.18.1 dev eno1 metric 102\n",
        ),
    ),
    fault(
        "masquerade-missing@host",
        "the host no longer translates the floating range",
        in_table("host", "nat", f"-D {_MASQUERADE}"),
    ),
    fault("ip-forward-off@host", "the host does not forward", forwarding_off("host")),
    fault(
        "ip-forward-off@qrouter",
        "the router's namespace does not forward",
        forwarding_off("qrouter"),
    ),
    fault(
        "docker-forward-drop-vs-libvirt-nft",
        "Docker has set the policy of FORWARD to DROP, and nothing accepts br-ex",
        forward_policy_drop("host"),
    ),
    fault(
        "guest-no-default-route",
        "the instance has no default route",
        without_route("instance", "default via 10.1.0.1"),
    ),
    decoy(
        "second-masquerade",
        "a second rule that translates the floating range, for eno2",
        in_table("host", "nat", f"-A {_MASQUERADE.replace('eno1', 'eno2')}"),
    ),
)

NETWORK = Network(
    name="devstack",
    summary="OpenStack's floating addresses behind br-ex, a qrouter namespace and two uplinks",
    example="instance 8.8.8.8",
    machines=(_HOST, _QROUTER, _INSTANCE, *_OUTSIDE),
    faults=_FAULTS,
    hidden=("outside", "outside2"),
)
