"""What is set by hand on routes, addresses, ports and rules, on recorded facts."""

import pytest

from kvmdiag.model.link import Bridge, BridgePort
from kvmdiag.model.link_kinds import Macvlan
from kvmdiag.model.stack import Neighbour

from .build import found, judge, proved
from .many import host_with
from .recorded import (
    MAC0,
    MAC1,
    Proof,
    address,
    every,
    link,
    no_address,
    no_default_route,
    prove,
    route,
    rule,
    stack,
)

OUT = ("vm0", "10.0.0.9")
PEER = ("vm0", "192.168.1.2")
# A port of the bridge that leads out of what can be seen.
OPENING = link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort())
ON_ETH0 = {"kind": "macvtap", "mac": "52:54:00:09:09:09", "lower": "eth0", "guest": "vm9"}
FORWARDED_TO_NOBODY = every(
    rule("-j ACCEPT"),
    rule(
        "-d 10.0.0.10/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.77.77:80",
        "PREROUTING",
        "nat",
    ),
)


def default(**fields: object):
    """Another default route for vm0 than its own."""
    given = {"link": "eth0", "gateway": "192.168.0.1", **fields}
    return every(no_default_route("vm0"), route("0.0.0.0/0", "vm0", **given))


def alone(name: str, text: str):
    """A guest with another address in the place of its own, and a route to its gateway."""
    return every(
        no_address("eth0", name),
        address("eth0", text, name),
        route("192.168.0.1/32", name, link="eth0", scope="link"),
        route("0.0.0.0/0", name, link="eth0", gateway="192.168.0.1"),
    )


def knows(name: str, text: str, mac: str):
    """A guest was told for good where another one is."""
    entry = Neighbour(link="eth0", address=text, mac=mac, state="permanent")
    return stack(name, neighbours=(entry,))


# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "conntrack-bypassed": Proof(
        rule("-i virbr0 -j CT --notrack", "PREROUTING", "raw"),
        rule("-p udp -m udp --dport 4789 -j CT --notrack", "PREROUTING", "raw"),
        OUT,
        says="cause",
    ),
    "ttl-cut-short": Proof(
        rule("-i virbr0 -j TTL --ttl-set 1", "PREROUTING", "mangle"),
        rule("-i virbr0 -j TTL --ttl-set 64", "PREROUTING", "mangle"),
        OUT,
        says="cause",
    ),
    "route-source-wrong": Proof(
        default(preferred_source="172.30.0.5"),
        default(preferred_source="192.168.1.1"),
        OUT,
        says="cause",
        base=address("eth0", "172.30.0.5/32", "vm0"),
    ),
    "route-without-gateway": Proof(
        default(gateway=None), every(default(gateway=None), OPENING), OUT, says="cause"
    ),
    "wrong-netmask": Proof(
        every(no_address("eth0", "vm1"), address("eth0", "192.168.1.2/32", "vm1")),
        alone("vm0", "192.168.1.1/32"),
        PEER,
        OUT,
        says="cause",
    ),
    "destination-absent": Proof(
        FORWARDED_TO_NOBODY,
        every(FORWARDED_TO_NOBODY, OPENING),
        ("10.0.0.1", "10.0.0.10", "tcp", 8080),
        says="cause",
    ),
    "nic-given-to-passthru": Proof(
        link("macvtap0", macvlan=Macvlan(mode="passthru"), **ON_ETH0),
        link("macvtap0", macvlan=Macvlan(mode="bridge"), **ON_ETH0),
        OUT,
        says="cause",
    ),
    "bridge-port-blocked": Proof(
        link("vnet1", port=BridgePort(state="disabled")),
        every(
            link("virbr0", bridge=Bridge(stp=True)),
            link("vnet1", port=BridgePort(state="listening")),
        ),
        PEER,
        says="cause",
    ),
    "bridge-flood-learning-off": Proof(
        link("vnet1", port=BridgePort(broadcast_flood=False)),
        every(
            link("vnet1", port=BridgePort(broadcast_flood=False)),
            knows("vm0", "192.168.1.2", MAC1),
            knows("vm1", "192.168.1.1", MAC0),
        ),
        PEER,
        says="cause",
    ),
    "duplicate-ip": Proof(
        address("virbr0", "192.168.1.1/32"),
        address("virbr0", "192.168.1.9/32"),
        ("vm0", "192.168.0.1"),
        says="cause",
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """Named by the path that it stops, and not where the path does without."""
    prove(check, CASES[check])


def test_a_guest_that_is_not_seen_may_have_the_address():
    """What is assumed of it is no reason to say that nobody has it: a clone has two."""
    unseen = stack("vm1", assumed=("vm1 has the address 192.168.1.2: a lease says so",))
    asked = ("10.0.0.1", "10.0.0.10", "tcp", 8080)
    report = judge(every(FORWARDED_TO_NOBODY, unseen)(host_with(2)), *asked)
    assert report.verdict == "faulty"
    assert not found(report, "destination-absent")
