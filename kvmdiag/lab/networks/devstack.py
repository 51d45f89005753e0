"""A DevStack host: floating addresses behind br-ex, two uplinks, Docker beside it.

    instance ens3 -- brq qrouter -- br-ex host eno1 -- outside
                                               eno2 -- outside2

The qrouter namespace gives the instance its floating address, as Neutron's L3 agent does; the
host translates the floating range, which nobody beyond its uplinks knows, to its own address.
A Linux bridge stands in for Open vSwitch.
"""

from __future__ import annotations

from kvmdiag.lab.spec import Fault, Ip, Link, Machine, Network, Rules, Sysctls

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
        Link(
            name="eno1",
            mac="52:54:00:20:01:32",
            addresses=("192.168.20.132/21",),
            peer="outside:lan",
        ),
        Link(
            name="eno2",
            mac="52:54:00:08:01:32",
            addresses=("192.168.8.132/24",),
            peer="outside2:lan",
        ),
        Link(name="br-ex", kind="bridge", mac="52:54:00:42:00:01", addresses=("192.168.42.1/24",)),
        Link(name="brq6d0c3a51-77", kind="bridge", mac="52:54:00:6d:0c:3a"),
        Link(name="docker0", kind="bridge", mac="02:42:ac:11:00:01", addresses=("172.17.0.1/16",)),
        Link(
            name="tap1f2a3b4c-5d",
            mac="fe:16:3e:42:00:15",
            master="br-ex",
            peer="qrouter:qg-1f2a3b4c-5d",
        ),
        Link(
            name="tap6e7f8a9b-0c",
            mac="fe:16:3e:01:00:01",
            master="brq6d0c3a51-77",
            peer="qrouter:qr-6e7f8a9b-0c",
        ),
        Link(
            name="tap9c8d7e6f-1a",
            mac="fe:16:3e:01:00:12",
            master="brq6d0c3a51-77",
            peer="instance:ens3",
        ),
    ),
    routes=(
        "default via 192.168.18.1 dev eno1 metric 100",
        "default via 192.168.8.1 dev eno2 metric 101",
    ),
    sysctls={"net.ipv4.ip_forward": "1"},
    rules=f"{_DOCKER}*nat\n-A {_MASQUERADE}\nCOMMIT\n",
)

_QROUTER = Machine(
    name="qrouter",
    links=(
        Link(
            name="qg-1f2a3b4c-5d",
            mac="fa:16:3e:42:00:15",
            addresses=("192.168.42.15/24", "192.168.42.20/32"),
        ),
        Link(name="qr-6e7f8a9b-0c", mac="fa:16:3e:01:00:01", addresses=("10.1.0.1/26",)),
    ),
    routes=("default via 192.168.42.1 dev qg-1f2a3b4c-5d",),
    sysctls={"net.ipv4.ip_forward": "1"},
    rules=_ROUTER,
)

_INSTANCE = Machine(
    name="instance",
    links=(Link(name="ens3", mac="fa:16:3e:01:00:12", addresses=("10.1.0.12/26",)),),
    routes=("default via 10.1.0.1 dev ens3",),
)

# Neither has a route back to the floating range.
_OUTSIDE = (
    Machine(
        name="outside",
        links=(
            Link(name="lan", mac="52:54:00:20:00:01", addresses=("192.168.18.1/21", "8.8.8.8/32")),
        ),
    ),
    Machine(
        name="outside2",
        links=(
            Link(name="lan", mac="52:54:00:08:00:01", addresses=("192.168.8.1/24", "8.8.8.8/32")),
        ),
    ),
)

_FAULTS = (
    Fault(
        name="masquerade-pinned-to-wrong-egress",
        machine="host",
        summary="the default route has moved to eno2; the rule that translates names eno1",
        check="masquerade-pinned-to-wrong-egress",
        steps=(
            Ip(
                "host",
                "route del default via 192.168.18.1 dev eno1 metric 100\n"
                "route add default via 192.168.18.1 dev eno1 metric 102\n",
            ),
        ),
    ),
    Fault(
        name="masquerade-missing@host",
        machine="host",
        summary="the host no longer translates the floating range",
        check="masquerade-missing",
        steps=(Rules("host", f"*nat\n-D {_MASQUERADE}\nCOMMIT\n"),),
    ),
    Fault(
        name="ip-forward-off@host",
        machine="host",
        summary="the host does not forward",
        check="ip-forward-off",
        steps=(Sysctls("host", {"net.ipv4.ip_forward": "0"}),),
    ),
    Fault(
        name="ip-forward-off@qrouter",
        machine="qrouter",
        summary="the router's namespace does not forward",
        check="ip-forward-off",
        steps=(Sysctls("qrouter", {"net.ipv4.ip_forward": "0"}),),
    ),
    Fault(
        name="docker-forward-drop-vs-libvirt-nft",
        machine="host",
        summary="Docker has set the policy of FORWARD to DROP, and nothing accepts br-ex",
        check="docker-forward-drop-vs-libvirt-nft",
        steps=(Rules("host", "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"),),
    ),
    Fault(
        name="guest-no-default-route",
        machine="instance",
        summary="the instance has no default route",
        check="guest-no-default-route",
        steps=(Ip("instance", "route del default via 10.1.0.1\n"),),
    ),
    Fault(
        name="second-masquerade",
        machine="host",
        summary="a second rule that translates the floating range, for eno2",
        check=None,
        steps=(Rules("host", f"*nat\n-A {_MASQUERADE.replace('eno1', 'eno2')}\nCOMMIT\n"),),
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
