"""Rules that see frames: of br_netfilter, of family bridge, of links, and those that stop ARP."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.statements import Drop
from kvmdiag.model.trace import Outcome, Reason
from kvmdiag.parse import ebtables

_CALL = "net.bridge.bridge-nf-call-iptables"


@pytest.mark.parametrize(
    ("sysctl", "flag", "seen"),
    [(0, False, False), (0, True, True), (1, False, True), (1, True, True)],
)
def test_bridged_frames_meet_forward(bridged, sysctl, flag, seen):
    """br_netfilter: the sysctl or the bridge's own flag, either is enough."""
    bridged.set("host", _CALL, sysctl)
    bridge = next(k for k in bridged.stack("host").links if k.name == "br0").bridge
    bridged.alter("host", "br0", bridge=type(bridge)(nf_call_iptables=flag))
    bridged.rules("host", policy="FORWARD")
    request = bridged.walk("g1", "g2").request
    assert request.arrived is not seen
    if seen:
        assert request.end.decider.bridged
        assert (request.end.in_link, request.end.out_link) == ("br0", "br0")


def test_bridged_frames_have_the_bridge_as_device(bridged):
    """-i and -o name the bridge; the ports are known to physdev alone."""
    bridged.set("host", _CALL, 1)
    bridged.rules("host", "-A FORWARD -i tap-g1 -j DROP")
    assert bridged.walk("g1", "g2").works is True
    bridged.rules("host", "-A FORWARD -m physdev --physdev-in tap-g1 --physdev-is-bridged -j DROP")
    assert bridged.walk("g1", "g2").request.outcome is Outcome.DROPPED
    assert bridged.walk("g2", "g1").request.arrived


def test_bridge_family_sees_frames_always(bridged):
    """Chains of family bridge need no br_netfilter, and name the ports."""
    body = (InterfaceIs(direction="out", names=("tap-g2",)), Drop())
    bridged.chain("host", "forward", *body, family="bridge", priority=-200)
    request = bridged.walk("g1", "g2").request
    assert not request.arrived
    assert request.end.decider.family == "bridge"


@pytest.mark.parametrize(("option", "passes"), [("-in", False), ("-out", False), ("-in !", True)])
def test_bridge_rules_that_name_the_bridge(bridged, option, passes):
    """Not built in this kernel: ebtables' logical devices are the bridges of the ports."""
    line = f"-A FORWARD --logical{option} br0 -j DROP"
    text = f"*filter\n:FORWARD ACCEPT\n{line}\nCOMMIT\n"
    (table,) = ebtables.parse_save(text)
    chain = replace(table.chains[0], hook="forward", type="filter")
    bridged.table("host", replace(table, chains=(chain,)))
    bridged.neighbour("g1", "eth0", "10.0.0.3", bridged.mac("g2", "eth0"), "reachable")
    assert bridged.walk("g1", "10.0.0.3").request.arrived is passes


@pytest.mark.parametrize(("hook", "link"), [("ingress", "tap-g1"), ("egress", "tap-g2")])
def test_chains_that_hang_on_a_link(bridged, hook, link):
    """Family netdev sees frames, ARP among them, before and after everything else."""
    bridged.chain("host", hook, Drop(), family="netdev", name="c", devices=(link,))
    request = bridged.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.NETFILTER)
    assert request.end.decider.chain == "c"


def test_chains_on_other_links_do_not_matter(bridged):
    """A netdev chain belongs to the links it names."""
    bridged.chain("host", "ingress", Drop(), family="netdev", devices=("eth7",))
    assert bridged.walk("g1", "g2").works is True


@pytest.mark.parametrize("hook", ["prerouting", "input"])
def test_bridge_rules_stop_arp(bridged, hook):
    """The machine is never found: no packet gets as far as being dropped."""
    bridged.chain("host", hook, Drop(), family="bridge", priority=-200)
    request = bridged.walk("g1", "10.0.0.1").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.NETFILTER)


def test_rules_of_family_arp(bridged):
    """The one who is asked may be forbidden to listen."""
    bridged.chain("g2", "input", family="arp", policy="drop")
    assert bridged.walk("g1", "g2").request.reason is Reason.NETFILTER
    assert bridged.walk("g1", "10.0.0.1").works is True
