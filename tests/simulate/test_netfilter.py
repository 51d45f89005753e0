"""Hooks on the way: which chains see a packet, in which order, and what becomes of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kvmdiag.model.netfilter import (
    Accept,
    Chain,
    ConntrackStateIs,
    Drop,
    InterfaceIs,
    Masquerade,
    Rule,
    SetMark,
    Table,
    UnknownMatch,
)
from kvmdiag.model.trace import Outcome, Reason, RuleRef, Stage
from kvmdiag.parse import ebtables

_CALL = "net.bridge.bridge-nf-call-iptables"


def _rule(*body) -> Rule:
    return Rule(body=body, text=" ".join(type(part).__name__ for part in body))


def _nft(*chains: Chain, family="inet", name="t") -> Table:
    return Table(family=family, name=name, backend="nft", chains=chains)


def test_drop_names_its_rule(routed):
    """Table, chain, position and text of what decided."""
    routed.rules("host", "-A FORWARD -p tcp -j ACCEPT", "-A FORWARD -d 10.2.0.2/32 -j DROP")
    request = routed.walk("guest", "far").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NETFILTER)
    decider = request.end.decider
    assert isinstance(decider, RuleRef)
    assert (decider.table, decider.chain, decider.index) == ("filter", "FORWARD", 1)
    assert routed.walk("guest", "far", "tcp", 80).works is True


def test_policy_decides_when_no_rule_does(routed):
    """A policy has no index."""
    routed.rules("host", "-A FORWARD -s 192.0.2.1 -j ACCEPT", policy="FORWARD")
    decider = routed.walk("guest", "far").request.end.decider
    assert decider.index is None
    assert "DROP" in decider.text


def test_reject_tells_the_sender(routed):
    """Rejected is not dropped."""
    routed.rules("host", "-A FORWARD -j REJECT --reject-with icmp-host-prohibited")
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.REJECTED
    assert "icmp-host-prohibited" in request.end.decision


def test_accept_in_one_table_and_drop_in_another(routed):
    """An accept is final for its own base chain only."""
    routed.rules("host", "-A FORWARD -j ACCEPT")
    drop = Chain(name="f", hook="forward", type="filter", priority=10, rules=(_rule(Drop()),))
    routed.table("host", _nft(drop))
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.DROPPED
    assert request.end.decider.family == "inet"


def test_chains_run_by_priority(routed):
    """The lower number goes first, whatever the order of tables: its mark is seen by the other."""
    late = Chain(name="late", hook="forward", type="filter", priority=20, rules=(_rule(Drop()),))
    early = Chain(name="early", hook="forward", type="filter", priority=-20, rules=(_rule(Drop()),))
    routed.table("host", _nft(late, early))
    assert routed.walk("guest", "far").request.end.decider.chain == "early"


def test_half_fixed_docker(routed):
    """The first rule lets the request out; without the second the reply is dropped."""
    routed.rules("host", "-A FORWARD -i in0 -j ACCEPT", policy="FORWARD")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert walk.reply.reason is Reason.NETFILTER
    routed.change("host", tables=())
    routed.rules(
        "host",
        "-A FORWARD -i in0 -j ACCEPT",
        "-A FORWARD -o in0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        policy="FORWARD",
    )
    assert routed.walk("guest", "far").works is True
    assert routed.walk("far", "guest").works is False


def test_jump_comes_back_goto_does_not(routed):
    """After a goto the walk goes on where the last jump came from: here, the policy."""
    drop = "-A FORWARD -j DROP"
    routed.rules("host", "-A FORWARD -j user", drop, "-A user -p tcp -j ACCEPT")
    assert routed.walk("guest", "far").request.outcome is Outcome.DROPPED
    routed.change("host", tables=())
    routed.rules("host", "-A FORWARD -g user", drop, "-A user -p tcp -j ACCEPT")
    assert routed.walk("guest", "far").works is True


def test_goto_inside_a_jumped_chain(routed):
    """From goto inside a jumped-to chain the packet returns to the jump."""
    routed.rules(
        "host",
        "-A FORWARD -j one",
        "-A FORWARD -j DROP",
        "-A one -g two",
        "-A one -j ACCEPT",
        "-A two -p tcp -j ACCEPT",
    )
    assert routed.walk("guest", "far").request.end.decider.chain == "FORWARD"


def test_return_leaves_the_chain(routed):
    """RETURN in a base chain is its policy."""
    routed.rules("host", "-A FORWARD -j RETURN", "-A FORWARD -j DROP")
    assert routed.walk("guest", "far").works is True


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
    chain = Chain(name="f", hook="forward", type="filter", priority=-200, rules=(_rule(*body),))
    bridged.table("host", _nft(chain, family="bridge"))
    request = bridged.walk("g1", "g2").request
    assert not request.arrived
    assert request.end.decider.family == "bridge"


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


def test_nat_chains_without_conntrack_are_not_run(routed):
    """Only a translation or a match on the connection switches conntrack on."""
    mark = Chain(name="n", hook="prerouting", type="nat", priority=-100, rules=(_rule(Drop()),))
    routed.table("host", _nft(mark, family="ip"))
    assert routed.walk("guest", "far").works is True
    watch = Chain(
        name="f",
        hook="forward",
        type="filter",
        rules=(_rule(ConntrackStateIs(states=("invalid",)), Drop()),),
    )
    routed.table("host", _nft(watch, family="ip", name="u"))
    assert routed.walk("guest", "far").request.end.decider.chain == "n"


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


def test_forward_sees_a_redirected_packet_as_one_connection(routed):
    """After DNAT the connection is the same: state new, status dnat."""
    routed.rules(
        "host",
        "-A PREROUTING -d 10.1.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.2.0.2",
        table="nat",
    )
    routed.rules("host", "-A FORWARD -m conntrack --ctstate DNAT -j DROP")
    assert not routed.walk("guest", "10.1.0.1", "tcp", 80).request.arrived
    assert routed.walk("guest", "far", "tcp", 80).works is True


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


def test_asymmetric_reply_is_invalid(net):
    """A firewall that sees only the answer knows no connection for it."""
    net.cable("a", "eth0", "10.0.0.1/24", "fw", "eth0", "10.0.0.254/24")
    net.cable("b", "eth0", "10.1.0.1/24", "fw", "eth1", "10.1.0.254/24")
    net.cable("a", "eth1", "10.9.0.1/24", "b", "eth1", "10.9.0.2/24")
    net.route("a", "10.1.0.0/24", "10.9.0.2", preferred_source="10.0.0.1")
    net.route("b", "default", "10.1.0.254")
    net.forward("fw")
    net.rules("fw", "-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    walk = net.walk("a", "10.1.0.1", "tcp", 80)
    assert walk.request.arrived
    assert walk.reply.reason is Reason.NETFILTER
    assert walk.reply.end.stack == "fw"


def test_mark_in_an_ordinary_chain_does_not_route_again(routed):
    """Only chains of type route do (and iptables' mangle OUTPUT)."""
    routed.policy("guest", 100, action="blackhole", fwmark=7)
    body = (SetMark(of="packet", value=7, mask=0xFFFFFFFF),)
    chain = Chain(name="o", hook="output", type="filter", rules=(_rule(*body),))
    routed.table("guest", _nft(chain, family="ip"))
    assert routed.walk("guest", "far").works is True
    routed.rules("guest", "-A OUTPUT -j MARK --set-mark 7", table="mangle")
    assert not routed.walk("guest", "far").request.arrived


def test_unknown_match_that_decides(routed):
    """Both ways are followed; where they part the walk says unknown, and names the match."""
    body = (UnknownMatch(text="-m time --timestart 08:00"), Drop())
    chain = Chain(name="f", hook="forward", type="filter", rules=(_rule(*body),))
    routed.table("host", _nft(chain))
    request = routed.walk("guest", "far").request
    assert (request.outcome, request.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)
    assert "--timestart" in request.end.because


def test_unknown_match_that_does_not_matter(routed):
    """If the packet fares alike either way, the unknown is no obstacle."""
    body = (UnknownMatch(text="limit rate 5/second"), Accept())
    chain = Chain(name="f", hook="forward", type="filter", rules=(_rule(*body),))
    routed.table("host", _nft(chain))
    assert routed.walk("guest", "far").works is True


def test_translation_that_cannot_be_told_and_does_not_matter(routed):
    """Translated or not the packet arrives, and so does the reply: both are said."""
    body = (UnknownMatch(text="-m statistic"), Masquerade())
    chain = Chain(name="p", hook="postrouting", type="nat", priority=100, rules=(_rule(*body),))
    routed.table("host", _nft(chain, family="ip"))
    walk = routed.walk("guest", "far")
    assert walk.works is True
    first, second = walk.request.assumptions
    assert "-m statistic cannot be told" in first
    assert "far as 10.1.0.2 > 10.2.0.2 icmp, or in far as 10.2.0.1 > 10.2.0.2 icmp" in second


def test_translation_that_cannot_be_told_decides_about_the_reply(routed):
    """Untranslated the reply is dropped on its way, elsewhere: the rule is named all the same."""
    body = (UnknownMatch(text="-m statistic"), Masquerade())
    chain = Chain(name="p", hook="postrouting", type="nat", priority=100, rules=(_rule(*body),))
    routed.table("host", _nft(chain, family="ip"))
    routed.rules("far", "-A OUTPUT -d 10.1.0.2 -j DROP")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert walk.reply.outcome is Outcome.UNKNOWN
    assert walk.reply.end.decider.chain == "p"
    assert walk.reply.end.because == (
        "-m statistic: if it does not match, the reply is dropped in far by"
        " -A OUTPUT -d 10.1.0.2 -j DROP; if it matches, the reply is delivered in guest"
    )


def test_mark_that_cannot_be_told_is_followed_through_routing(routed):
    """A mark decides at a policy rule, far from where it was set."""
    routed.policy("host", 100, action="blackhole", fwmark=7)
    body = (UnknownMatch(text="-m time"), SetMark(of="packet", value=7, mask=0xFFFFFFFF))
    chain = Chain(name="m", hook="prerouting", type="filter", priority=-150,
                  rules=(_rule(*body),))  # fmt: skip
    routed.table("host", _nft(chain, family="ip"))
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.UNKNOWN
    assert request.end.stage is Stage.PREROUTING
    assert "if it matches, the request is dropped in host" in request.end.because


def test_way_that_parts_more_often_than_can_be_followed(routed):
    """Too many rules that cannot be told, each of which changes something: unknown, in time."""
    rules = [
        _rule(UnknownMatch(text=f"-m time {bit}"), SetMark(of="packet", value=1 << bit,
              mask=1 << bit))
        for bit in range(20)
    ]  # fmt: skip
    chain = Chain(name="m", hook="prerouting", type="filter", priority=-150, rules=tuple(rules))
    routed.table("host", _nft(chain, family="ip"))
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.UNKNOWN
    assert "-m time" in request.end.because


def test_input_and_output_of_the_ends(routed):
    """The ends have netfilter as well, not only what lies between."""
    routed.rules("far", "-A INPUT -p icmp -j DROP")
    assert routed.walk("guest", "far").request.end.stage is Stage.INPUT
    assert routed.walk("guest", "far", "udp", 53).works is True
    routed.change("far", tables=())
    routed.rules("far", "-A OUTPUT -p icmp -j DROP")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert walk.reply.end.stage is Stage.OUTPUT


def test_input_is_asked_after_prerouting_nat(routed):
    """INPUT sees the translated destination."""
    routed.rules("host", "-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080", table="nat")
    routed.rules("host", "-A INPUT -p tcp --dport 80 -j DROP")
    assert routed.walk("guest", "10.1.0.1", "tcp", 80).works is True


@pytest.mark.parametrize(("hook", "link"), [("ingress", "tap-g1"), ("egress", "tap-g2")])
def test_chains_that_hang_on_a_link(bridged, hook, link):
    """Family netdev sees frames, ARP among them, before and after everything else."""
    drop = Chain(name="c", hook=hook, type="filter", devices=(link,), rules=(_rule(Drop()),))
    bridged.table("host", _nft(drop, family="netdev"))
    request = bridged.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.NETFILTER)
    assert request.end.decider.chain == "c"


def test_chains_on_other_links_do_not_matter(bridged):
    """A netdev chain belongs to the links it names."""
    drop = Chain(name="c", hook="ingress", type="filter", devices=("eth7",), rules=(_rule(Drop()),))
    bridged.table("host", _nft(drop, family="netdev"))
    assert bridged.walk("g1", "g2").works is True


@pytest.mark.parametrize("hook", ["prerouting", "input"])
def test_bridge_rules_stop_arp(bridged, hook):
    """The machine is never found: no packet gets as far as being dropped."""
    drop = Chain(name="c", hook=hook, type="filter", priority=-200, rules=(_rule(Drop()),))
    bridged.table("host", _nft(drop, family="bridge"))
    request = bridged.walk("g1", "10.0.0.1").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.NETFILTER)


def test_rules_of_family_arp(bridged):
    """The one who is asked may be forbidden to listen."""
    drop = Chain(name="c", hook="input", type="filter", policy="drop")
    bridged.table("g2", _nft(drop, family="arp"))
    assert bridged.walk("g1", "g2").request.reason is Reason.NETFILTER
    assert bridged.walk("g1", "10.0.0.1").works is True


def test_before_conntrack_a_packet_is_invalid(routed):
    """A rule in raw asks for the state of a connection that is not known yet."""
    routed.rules("host", "-A PREROUTING -m conntrack --ctstate INVALID -j DROP", table="raw")
    assert routed.walk("guest", "far").request.reason is Reason.NETFILTER


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
