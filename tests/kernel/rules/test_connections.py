"""Connections that outlive a change of the nat rules, with the kernel as judge.

The walk's hooks know of them what is read out of the conntrack table.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from kvmdiag.collect.flows.table import flows_among
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.system.namespaces import entered

from .predicted import translated
from .sent import Sent, answer, icmp, tcp, udp

pytestmark = pytest.mark.kernel

TRACKS = "*filter\n-A FORWARD -m conntrack --ctstate NEW\nCOMMIT\n"
# A nat chain alone tracks nothing.
NAT = f"{TRACKS}*nat\n-A POSTROUTING -o i0 -j RETURN\nCOMMIT\n"
MASQUERADE = f"{TRACKS}*nat\n-A POSTROUTING -o o0 -j MASQUERADE\nCOMMIT\n"


def _with_flows(bench) -> StackView:
    view = bench.view()
    with entered(f"/run/netns/{bench.router}"):
        flows = flows_among(("10.1.0.2", "10.2.0.2", "10.2.0.1"))
    return StackView(replace(view.stack, flows=flows))


def _begun(bench, before, sent, *, answered):
    """A connection that began under these rules, and was answered or not."""
    bench.clear()
    bench.load("iptables-nft-restore", text=before)
    seen = bench.arrived(sent)
    if answered:
        back = replace(answer(sent).packet, src=seen[2], sport=seen[3], dst=seen[0], dport=seen[1])
        assert bench.arrived(Sent(back, back=True), forget=False) is not None


def _agree(bench, sent):
    """How a further packet arrives, as the kernel and the walk agree."""
    said = translated(bench, sent, _with_flows(bench))
    assert said == bench.arrived(sent, forget=False)
    return str(said[0])


@pytest.mark.parametrize(
    ("before", "answered", "source"),
    [
        (NAT, True, "10.1.0.2"),
        (NAT, False, "10.1.0.2"),
        (TRACKS, True, "10.1.0.2"),
        (TRACKS, False, "10.1.0.2"),  # though no nat chain has seen it yet
    ],
)
@pytest.mark.parametrize("proto", [icmp, udp])
def test_a_rule_that_came_later(bench, proto, before, answered, source):
    """What nat chains have decided holds, and so does that they were not asked."""
    _begun(bench, before, proto(), answered=answered)
    bench.load("iptables-nft-restore", text=MASQUERADE)
    assert _agree(bench, proto()) == source
    assert _agree(bench, udp(src="10.1.0.3", dport=1)) == "10.2.0.1"


@pytest.mark.parametrize("answered", [True, False])
def test_a_nat_chain_that_drops(bench, answered):
    """It is asked about a connection that no nat chain has seen, until that is answered."""
    _begun(bench, TRACKS, udp(), answered=answered)
    bench.load("nft", "add table ip n")
    bench.load("nft", "add chain ip n c { type nat hook postrouting priority 100 ; policy drop ; }")
    said = translated(bench, udp(), _with_flows(bench))
    assert (said is not None) is answered
    patience = 0.3 if said is None else 5
    assert said == bench.arrived(udp(), forget=False, patience=patience)


@pytest.mark.parametrize("answered", [True, False])
def test_a_rule_that_is_gone(bench, answered):
    """Its translation stays with the connections that have it."""
    _begun(bench, MASQUERADE, udp(), answered=answered)
    bench.load("iptables-nft-restore", text=NAT)
    assert _agree(bench, udp()) == "10.2.0.1"
    assert _agree(bench, udp(dport=1)) == "10.1.0.2"


def test_a_segment_in_the_midst_of_a_connection(bench):
    """An ACK of a TCP connection that is known, and whose rule is gone."""
    _begun(bench, MASQUERADE, tcp(), answered=True)
    bench.load("iptables-nft-restore", text=NAT)
    packet = replace(tcp(80, "ack").packet, dst=ip_address("10.2.0.2"))
    assert _agree(bench, Sent(packet)) == "10.2.0.1"
