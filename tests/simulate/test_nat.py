"""Translations: which packets they change, and how answers find their way back."""

from __future__ import annotations

from kvmdiag.model.trace import Reason

_CALL = "net.bridge.bridge-nf-call-iptables"


def test_masquerade_rewrites_bridged_frames(bridged):
    """A trap: with br_netfilter, guests on one bridge are translated to the bridge's address."""
    bridged.set("host", _CALL, 1)
    bridged.rules("host", "-A POSTROUTING -s 10.0.0.0/24 -j MASQUERADE", table="nat")
    walk = bridged.walk("g1", "g2")
    assert str(walk.request.end.packet.src) == "10.0.0.1"
    # Where the translation is undone the frame is routed, and that needs forwarding.
    assert walk.reply.reason is Reason.FORWARDING_OFF
    bridged.forward("host")
    walk = bridged.walk("g1", "g2")
    assert walk.works is True
    assert str(walk.reply.end.packet.src) == "10.0.0.3"


def test_masquerade_of_a_bridge_without_address(net):
    """It takes another link's address, and the replies are lost: a silent outage."""
    net.bridge("host", "br0")
    net.guest("g1", "10.0.0.2/24")
    net.guest("g2", "10.0.0.3/24")
    net.link("host", "eth0", "192.0.2.1/24")
    net.set("host", _CALL, 1)
    net.rules("host", "-A POSTROUTING -s 10.0.0.0/24 -j MASQUERADE", table="nat")
    walk = net.walk("g1", "g2")
    assert str(walk.request.end.packet.src) == "192.0.2.1"
    assert walk.works is False


def test_dnat_and_back(routed):
    """The destination becomes another, and the answer seems to come from the one asked."""
    routed.rules(
        "host",
        "-A PREROUTING -d 10.1.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.2.0.2:8080",
        table="nat",
    )
    walk = routed.walk("guest", "10.1.0.1", "tcp", 80)
    got = walk.request.end.packet
    assert (str(got.dst), got.dport) == ("10.2.0.2", 8080)
    answer = walk.reply.end.packet
    assert (str(answer.src), answer.sport) == ("10.1.0.1", 80)
    assert walk.works is True


def test_redirect_leads_to_the_machine_itself(routed):
    """REDIRECT: the first address of the link it came in by."""
    routed.rules("host", "-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080", table="nat")
    walk = routed.walk("guest", "far", "tcp", 80)
    assert (walk.request.end.stack, str(walk.request.end.packet.dst)) == ("host", "10.1.0.1")
    assert walk.works is True


def test_hairpin_needs_the_source_translated(net):
    """DNAT back into the network it came from: without SNAT the answer goes astray."""
    net.bridge("host", "br0", "10.0.0.1/24")
    net.guest("g1", "10.0.0.2/24")
    net.guest("g2", "10.0.0.3/24")
    net.forward("host")
    net.rules(
        "host",
        "-A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.3",
        table="nat",
    )
    walk = net.walk("g1", "10.0.0.1", "tcp", 80)
    assert walk.request.end.stack == "g2"
    assert walk.works is False
    net.change("host", tables=())
    net.rules(
        "host",
        "-A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.3",
        "-A POSTROUTING -s 10.0.0.0/24 -d 10.0.0.3 -j MASQUERADE",
        table="nat",
    )
    assert net.walk("g1", "10.0.0.1", "tcp", 80).works is True


def test_a_bridged_frame_settles_nat_before_it_is_routed(net):
    """Seen as a bridged frame first, then routed with the same tuple: nat rules run once."""
    net.bridge("host", "br0", "10.0.0.1/24")
    net.guest("g1", "10.0.0.2/24")
    net.guest("router", "10.0.0.9/24")
    net.cable("router", "eth1", "10.5.0.1/24", "host", "back0", "10.5.0.2/24")
    net.cable("host", "up0", "10.6.0.1/24", "far", "eth0", "10.6.0.2/24")
    net.route("g1", "default", "10.0.0.9")
    net.route("router", "default", "10.5.0.2")
    net.route("far", "default", "10.6.0.1")
    net.forward("host")
    net.forward("router")
    net.set("host", _CALL, 1)
    net.rules("host", "-A POSTROUTING -o up0 -j MASQUERADE", table="nat")
    walk = net.walk("g1", "far")
    assert walk.request.arrived
    assert str(walk.request.end.packet.src) == "10.0.0.2"


def test_input_is_asked_after_prerouting_nat(routed):
    """INPUT sees the translated destination."""
    routed.rules("host", "-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080", table="nat")
    routed.rules("host", "-A INPUT -p tcp --dport 80 -j DROP")
    assert routed.walk("guest", "10.1.0.1", "tcp", 80).works is True
