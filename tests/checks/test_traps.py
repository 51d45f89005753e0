"""The traps of each check: what looks like the fault and is not."""

import msgspec
import pytest

from kvmdiag.actions.link import SetLinkUp
from kvmdiag.actions.rule import InsertRule
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.model.libvirt import Network
from kvmdiag.model.stack import NextHop, Route

pytestmark = pytest.mark.kernel


@pytest.mark.silent("bridge-nf-forward-drop")
def test_bridge_nf_with_an_accepting_rule_is_harmless(broken, ask):
    """FORWARD policy DROP and bridge-nf on, but the bridge's own traffic is accepted."""
    accept = InsertRule(stack="host", chain="FORWARD", rule="-i mybr0 -o mybr0 -j ACCEPT")
    report = ask(accept.apply(broken("bridge-nf-forward-drop")))
    assert (report.verdict, report.findings) == ("healthy", ())


def test_bridge_nf_prefers_docker_user_where_docker_is(broken, ask, patched):
    """Docker rewrites FORWARD; its DOCKER-USER chain is the place that it leaves alone."""
    from kvmdiag.model.netfilter import Chain
    from kvmdiag.parse.iptables import parse_rule

    snapshot = broken("bridge-nf-forward-drop")
    tables = []
    for table in snapshot.stack("host").tables:
        if table.name == "filter" and table.family == "ip":
            chains = tuple(
                msgspec.structs.replace(c, rules=(parse_rule("-j DOCKER-USER"), *c.rules))
                if c.name == "FORWARD"
                else c
                for c in table.chains
            )
            chains = (*chains, Chain(name="DOCKER-USER"))
            tables.append(msgspec.structs.replace(table, chains=chains))
        else:
            tables.append(table)
    report = ask(patched(snapshot, "host", tables=tuple(tables)))
    (finding,) = report.findings
    assert "-I DOCKER-USER 1 -i mybr0 -o mybr0 -j ACCEPT" in finding.fix[0].command
    assert finding.verified


def test_a_bridges_own_switch_is_enough(broken, ask, patched):
    """bridge-nf-call-iptables = 0 does not clear a bridge whose own nf_call_iptables is set."""
    snapshot = SetSysctl(stack="host", values=(("net.bridge.bridge-nf-call-iptables", "0"),)).apply(
        broken("bridge-nf-forward-drop")
    )
    assert ask(snapshot).verdict == "healthy"
    links = tuple(
        msgspec.structs.replace(
            link, bridge=msgspec.structs.replace(link.bridge, nf_call_iptables=True)
        )
        if link.name == "mybr0"
        else link
        for link in snapshot.stack("host").links
    )
    report = ask(patched(snapshot, "host", links=links))
    assert [f.check for f in report.findings] == ["bridge-nf-forward-drop"]


@pytest.mark.silent("ip-forward-off")
def test_forwarding_off_is_harmless_where_nothing_is_routed(broken, ask):
    """node1 never forwards, and node1 to master is bridged: the host need not forward either."""
    report = ask(broken("ip-forward-off@host"), "node1", "master")
    assert report.walk is not None
    assert report.walk.works is True
    assert not [f for f in report.findings if f.role == "cause"]


@pytest.mark.silent("per-iface-forwarding-off")
def test_forwarding_off_on_an_interface_off_the_path_is_harmless(broken, ask):
    """The host's mybr0 does not route anything here."""
    off = SetSysctl(stack="host", values=(("net.ipv4.conf.mybr0.forwarding", "0"),))
    report = ask(off.apply(broken()))
    assert (report.verdict, report.findings) == ("healthy", ())


def test_forwarding_off_on_the_uplink_kills_the_replies(broken, ask):
    """The switch of the incoming link counts, and replies come in by the uplink."""
    off = SetSysctl(stack="host", values=(("net.ipv4.conf.eno1.forwarding", "0"),))
    report = ask(off.apply(broken()))
    assert [(f.check, f.subject) for f in report.findings] == [
        ("per-iface-forwarding-off", "host/eno1")
    ]


@pytest.mark.fires("routed-net-no-return-route")
@pytest.mark.silent("masquerade-missing")
def test_a_routed_network_needs_no_masquerade(broken, ask):
    """What libvirt means to be routed is never to be translated."""
    routed = Network(
        name="default",
        active=True,
        bridge="virbr0",
        mode="route",
        addresses=("192.168.122.1/24",),
        dns=False,
    )
    snapshot = msgspec.structs.replace(broken("masquerade-missing@host"), networks=(routed,))
    report = ask(snapshot)
    (finding,) = report.findings
    assert (finding.check, finding.role) == ("routed-net-no-return-route", "context")
    assert "tcpdump" in finding.proof
    assert report.verdict == "unknown"


@pytest.mark.silent("guest-no-default-route")
def test_an_isolated_network_has_no_default_route_by_design(broken, ask, patched):
    """Neither master routes for it nor may the bridge: nothing is suggested."""
    isolated = Network(
        name="inner", active=True, bridge="mybr0", mode=None, addresses=("192.168.48.1/24",)
    )
    snapshot = msgspec.structs.replace(broken("guest-no-default-route@node1"), networks=(isolated,))
    master = snapshot.stack("master")
    addresses = tuple(a for a in master.addresses if a.link != "ens3")
    unplugged = tuple(
        msgspec.structs.replace(link, carrier=False) if link.name == "ens3" else link
        for link in master.links
    )
    report = ask(patched(snapshot, "master", addresses=addresses, links=unplugged))
    assert [f.check for f in report.findings if f.role == "cause"] == []


@pytest.mark.silent("guest-rp-filter-multihomed")
def test_a_loose_reverse_path_filter_is_harmless(broken, ask):
    """The second NIC works with rp_filter 2."""
    report = ask(broken("second-nic"), "node1:ens3")
    assert (report.verdict, report.findings) == ("healthy", ())


def test_a_strict_filter_in_a_guest_with_one_nic_is_harmless(broken, ask):
    """There is only one way in and one way back."""
    strict = SetSysctl(
        stack="node1",
        values=(("net.ipv4.conf.all.rp_filter", "1"), ("net.ipv4.conf.ens6.rp_filter", "1")),
    )
    report = ask(strict.apply(broken()))
    assert (report.verdict, report.findings) == ("healthy", ())


@pytest.mark.silent("net-restart-orphan-taps")
def test_a_cable_that_the_host_routes_to_belongs_to_no_bridge(broken, ask, patched):
    """Calico and routed taps have no master by design."""
    snapshot = broken("net-restart-orphan-taps")
    direct = Route(destination="192.168.122.236/32", next_hops=(NextHop(link="vnet0"),))
    routes = (*snapshot.stack("host").routes, direct)
    report = ask(patched(snapshot, "host", routes=routes))
    assert "net-restart-orphan-taps" not in [f.check for f in report.findings]


@pytest.mark.silent("tap-admin-down")
def test_a_tap_that_is_down_off_the_path_is_latent_only(broken, ask):
    """Master's way out does not use node1's tap."""
    report = ask(broken("tap-admin-down"), "master")
    assert [(f.check, f.role) for f in report.findings] == [("tap-admin-down", "latent")]


def test_setting_the_tap_up_in_simulation_gives_a_healthy_cluster(broken, ask):
    """Carrier, port state and routes of the guest come back with it."""
    report = ask(SetLinkUp(stack="host", link="vnet3").apply(broken("tap-admin-down")))
    assert (report.verdict, report.findings) == ("healthy", ())
