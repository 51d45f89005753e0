"""Routes and addresses that were changed by hand, one command each."""

import pytest

from kvmdiag.actions.address import AddAddress, DeleteAddress
from kvmdiag.actions.route import AddRoute
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.model.link_kinds import Macvlan
from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.stack import Neighbour
from kvmdiag.model.statements import SourceNat

from .build import found, judge
from .many import host_with
from .recorded import address, every, link, more_tables, no_address, route, stack

pytestmark = pytest.mark.kernel

STRICT = SetSysctl(stack="host", values=(("net.ipv4.conf.all.rp_filter", "1"),))
WRONG_WAY = AddRoute(stack="host", destination="192.168.122.236/32", link="mybr0")


def commands(report):
    """The plan, without the way into each machine."""
    return [step.command.partition("-host ")[2] for step in report.plan.steps]


def causes(report):
    """Check and subject of what stops the path."""
    return [(f.check, f.subject) for f in report.findings if f.role == "cause"]


@pytest.mark.fires("strict-rp-filter")
def test_a_strict_filter_that_silences_arp_is_named(broken, ask):
    """Master answers on either of its links, so the way by mybr0 is good once it may be used."""
    report = ask(STRICT.apply(WRONG_WAY.apply(broken())))
    assert causes(report) == [("strict-rp-filter", "host/virbr0")]
    assert commands(report) == ["sysctl -w net.ipv4.conf.virbr0.rp_filter=2"]
    (finding,) = found(report, "strict-rp-filter")
    assert "does not answer" in finding.summary
    other = [step.command for alternative in finding.alternatives for step in alternative.steps]
    assert any("route del 192.168.122.236/32 dev mybr0" in command for command in other)
    assert report.plan.works is True


@pytest.mark.silent("strict-rp-filter")
def test_a_strict_filter_with_ways_back_by_the_same_link_is_harmless(broken, ask):
    """Everybody is heard where the route to him leads."""
    assert found(ask(STRICT.apply(broken())), "strict-rp-filter") == []


def test_an_address_of_another_network_that_leads_it_to_the_wrong_link_is_taken_off(broken, ask):
    """The outside's network on node1's NIC: nobody else there is in it."""
    snapshot = AddAddress(stack="node1", link="ens6", address="10.0.0.77/24").apply(broken())
    report = ask(snapshot)
    assert causes(report) == [("wrong-netmask", "node1/ens6")]
    (step,) = report.plan.steps
    assert step.command.endswith("ip addr del 10.0.0.77/24 dev ens6")


def test_a_mask_that_is_too_wide_is_changed_without_a_moment_without_address():
    """First the right one, then the wrong one goes; the default route by it stays."""
    wide = AddAddress(stack="vm0", link="eth0", address="192.168.1.1/4").apply(host_with(2))
    snapshot = DeleteAddress(stack="vm0", link="eth0", address="192.168.1.1/16").apply(wide)
    report = judge(snapshot, "vm0", "203.0.113.9")
    assert causes(report) == [("wrong-netmask", "vm0/eth0")]
    assert [line.command for line in report.plan.steps] == [
        "ip addr add 192.168.1.1/16 dev eth0",
        "ip addr del 192.168.1.1/4 dev eth0",
    ]
    assert report.plan.works is True


def test_a_reply_that_leaves_again_does_not_reach_the_guest():
    """The request passes; the route back to the guest leads out of the host."""
    astray = AddRoute(
        stack="host", destination="192.168.1.1/32", gateway="10.0.0.1", link="eth0"
    ).apply(host_with(2))
    report = judge(astray, "vm0", "10.0.0.9")
    assert report.walk.works is None
    assert causes(report) == [("vpn-specific-route-steals-guest-net", "host/virbr0")]
    assert report.plan.works is True


def test_a_reply_that_another_guest_gets_is_lost():
    """Where the outside's MAC address is known for good, nobody asks, and the reply goes astray."""
    given = link(
        "macvtap0", kind="macvtap", lower="eth0", guest="vm9", macvlan=Macvlan(mode="passthru")
    )
    known = Neighbour(link="eth0", address="10.0.0.1", mac="02:00:00:00:00:01", state="permanent")
    host = stack(neighbours=(known,))
    report = judge(host(given(host_with(2))), "vm0", "203.0.113.9")
    assert report.walk.works is False
    assert report.walk.reply.end.because == "the answer goes to vm9, but vm0 asked"
    assert causes(report) == [("nic-given-to-passthru", "host/macvtap0")]


def test_a_rule_of_nft_that_translates_to_a_lost_address_gets_one_in_front():
    """In the same chain, with the same matches."""
    body = (InterfaceIs(direction="out", names=("eth0",)), SourceNat(first="10.0.0.200"))
    rule = Rule(body=body, text='oifname "eth0" snat to 10.0.0.200', handle=2)
    chain = Chain(name="p", hook="postrouting", type="nat", priority=90, rules=(rule,))
    stale = more_tables(Table(family="ip", name="mine", backend="nft", chains=(chain,)))
    report = judge(stale(host_with(2)), "vm0", "203.0.113.9")
    assert causes(report) == [("snat-fixed-address-stale", "host/eth0")]
    (line,) = report.plan.steps
    assert 'insert rule ip mine p oifname "eth0" masquerade' in line.command
    assert report.plan.works is True


def test_a_gateway_is_reached_only_once_the_mask_is_right():
    """The kernel refuses a route by a gateway that is not on the link: the mask comes first."""
    narrow = every(
        no_address("eth0", "vm0"),
        address("eth0", "192.168.1.1/29", "vm0"),
        route("0.0.0.0/0", "vm0", link="eth0", gateway="192.168.1.6"),
    )
    report = judge(narrow(host_with(1)), "vm0", "203.0.113.9")
    assert causes(report) == [("wrong-netmask", "vm0/eth0"), ("gateway-absent", "vm0/eth0")]
    assert [line.command for line in report.plan.steps] == [
        "ip addr add 192.168.1.1/16 dev eth0",
        "ip route del default via 192.168.1.6 dev eth0",
        "ip route add default via 192.168.0.1 dev eth0",
    ]
