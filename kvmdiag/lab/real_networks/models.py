"""The models of a network side by side on a real libvirt: none, routed, NAT, open and bridged.

    iso     -- virbr1           (isolated: no way out)
    routed  -- virbr2           (known to the router outside by a route to this host)
    web     -- virbr0           (network default, translated; it serves HTTP)
    opened  -- virbr3           (forwarded without any rule of libvirt's; known outside too)
    lan     -- br0 -- eno1      (part of the LAN)

On the LAN are ``outside``, the router, which knows the way back, and ``stranger``, which does not.
"""

from __future__ import annotations

from kvmdiag.lab.faults import decoy, fault, in_table
from kvmdiag.lab.machines import FORWARDING
from kvmdiag.lab.networks import models
from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_networks.parts import Lease
from kvmdiag.lab.real_spec import RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Machine, Network, Shell

_WEB = Lease("web", "52:54:00:aa:00:04", "192.168.122.2")
_ISO = Lease("iso", "52:54:00:aa:00:01", "192.168.100.11")
_ROUTED = Lease("routed", "52:54:00:aa:00:03", "10.10.101.2")
_OPENED = Lease("opened", "52:54:00:aa:00:06", "10.10.102.2")
_SERVE = "mkdir -p /run/www; echo hello > /run/www/index.html; httpd -p 80 -h /run/www\n"

_HOST = Machine(name="host", links=models.BRIDGED_UPLINK, routes=(models.UP,), sysctls=FORWARDING)
_BEYOND = models.beyond("10.10.101.0/24 via 10.0.0.10", "10.10.102.0/24 via 10.0.0.10")

_TRANSLATE = in_table("host", "nat", f"-A {models.TRANSLATE}")
# It writes its rules while it already answers.
_IN_FRONT_AGAIN = """\
while iptables -S LIBVIRT_FWI 1 2> /dev/null | grep -q 'dport 80 '; do sleep 0.2; done
until iptables -S LIBVIRT_FWI 2> /dev/null | grep -q 'virbr0 -j REJECT'; do sleep 0.2; done
"""

_FAULTS = (
    fault(
        "dnat-blocked-by-libvirt-reject",
        "port 8080 is forwarded to web, and libvirt lets nothing new in",
        _TRANSLATE,
    ),
    fault(
        "accept-rule-after-reject",
        "a forwarded port was let in by a rule in libvirt's chain; libvirtd was restarted",
        _TRANSLATE,
        in_table("host", "filter", f"-I LIBVIRT_FWI 1 {models.LET_IN}"),
        Shell("host", parts.RESTART_LIBVIRT + _IN_FRONT_AGAIN),
        apart_from=("dnat-blocked-by-libvirt-reject",),
    ),
    *models.FOR_ANY_GUESTS,
    # Since 5.1 libvirt has chains of its own and leaves the jumps to them where they are.
    decoy(
        "libvirtd-restarted",
        "port 8080 is forwarded to web and let in; then libvirtd was restarted",
        _TRANSLATE,
        in_table("host", "filter", f"-I FORWARD 1 {models.LET_IN}"),
        Shell("host", parts.RESTART_LIBVIRT),
        apart_from=("dnat-blocked-by-libvirt-reject", "accept-rule-after-reject"),
    ),
    decoy(
        "routed-turned-into-nat",
        "the routed network is translated as well, by rules made by hand",
        models.INTO_NAT,
        in_table(
            "host",
            "filter",
            "-I FORWARD 1 -d 10.10.101.0/24 -o virbr2"
            " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
        apart_from=("routed-net-no-return-route",),
    ),
)

REAL_NETWORK = RealNetwork(
    namespaces=Network(
        name="models",
        summary="isolated, routed, NAT, open and bridged networks side by side",
        example="web 10.0.0.9",
        machines=(_HOST, *_BEYOND),
        faults=_FAULTS,
        hidden=("outside", "stranger"),
    ),
    virtual={
        "default": parts.default(_WEB),
        "isolated": parts.network("isolated", "virbr1", None, "192.168.100.1", _ISO),
        "routed": parts.network("routed", "virbr2", "route", "10.10.101.100", _ROUTED),
        "open": parts.network("open", "virbr3", "open", "10.10.102.100", _OPENED),
    },
    guests=(
        parts.guest(_ISO, virtual="isolated"),
        parts.guest(_ROUTED, virtual="routed"),
        parts.guest(_WEB, setup=_SERVE),
        parts.guest(_OPENED, virtual="open"),
        RealGuest(
            name="lan",
            nics=(RealNic(name="ens3", mac=models.LAN.links[0].mac, bridge="br0"),),
            setup=parts.static(models.LAN),
        ),
    ),
)
