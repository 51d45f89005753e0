"""A forward policy of DROP, such as Docker sets, meets packets that another table has accepted.

Symptom: after Docker was installed, or libvirt upgraded, NAT guests get DHCP and DNS and reach
    the host, and nothing beyond it.
Cause: a packet must pass every base chain of the forward hook. Libvirt's nft backend accepts in
    its own table; iptables' FORWARD has policy DROP and no rule for the guests' bridge.
Harmless when: a rule accepts the bridge in both directions, as libvirt's iptables backend does in
    the same table. A policy of DROP by itself proves nothing; one that neither Docker has set nor
    libvirt's own table meets is somebody's own (firewall-drop).
Evidence: a routed packet from or to a guests' bridge ends at the policy of a forward chain.
Fix: accept rules for the bridge, out and for replies back, in DOCKER-USER where Docker is, else
    in FORWARD; or firewall_backend = "iptables" in /etc/libvirt/network.conf, or
    "ip-forward-no-drop" in Docker's daemon.json.
Sources: net/netfilter/core.c (nf_hook_slow), libvirt src/network/network_nftables.c,
    https://fedoraproject.org/wiki/Changes/LibvirtVirtualNetworkNFTables
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import both_ways
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import is_guest_bridge
from kvmdiag.diagnose.rules import has_chain, has_table
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop, Reason, Stage


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def docker_forward_drop_vs_libvirt_nft(case: Case) -> Iterator[Suspicion]:
    """A routed packet of a guest ends at a forward chain's policy."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None or rule.bridged:
        return
    if end.stage is not Stage.FORWARD or rule.index is not None:
        return
    if not has_chain(stack, "DOCKER") and not has_table(stack, "libvirt_network"):
        return  # somebody's own policy, which firewall-drop explains
    bridge = next((n for n in (end.in_link, end.out_link) if is_guest_bridge(stack, n)), None)
    if bridge is None:
        return
    remedy = both_ways(stack, rule, _request(case, stack) or end)
    yield Suspicion(
        subject=place(stack, bridge),
        summary=f"{_who(stack)} has {stack.name} drop what {bridge} routes: no rule of "
        f"{rule.chain} accepts {end.in_link} to {end.out_link}",
        evidence=(rule_fact(stack, rule), *_elsewhere(stack)),
        remedies=(remedy,) if remedy else (),
    )


def _request(case: Case, stack: Stack) -> Hop | None:
    """The hop by which this stack routed the request, whichever direction was lost."""
    for router, hop in case.routers():
        if router is stack:
            return hop
    return None


def _who(stack: Stack) -> str:
    return "Docker" if has_chain(stack, "DOCKER") else "the policy of its forward chain"


def _elsewhere(stack: Stack) -> Iterator[Evidence]:
    if has_table(stack, "libvirt_network"):
        fact = "libvirt accepts in its own table, which does not count in another"
        yield Evidence(fact, f"nft table ip libvirt_network in {stack.name}")
