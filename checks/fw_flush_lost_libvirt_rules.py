"""All of libvirt's rules for a NAT network are gone.

Symptom: guests suddenly lose the Internet, and maybe DHCP, after a firewall was reloaded; the
    host is fine.
Cause: "nft flush ruleset", "iptables -F", or a restart of nftables, iptables, firehol or
    firewalld wiped the rules that libvirt had made when the network started.
Harmless when: the network is routed, open, isolated or bridged: then there are none to translate.
    After a reload of firewalld libvirt puts them back within seconds.
Evidence: the packet leaves untranslated, and no rule of any table, new or legacy, is about the
    network's bridge or subnet.
Fix: systemctl restart virtnetworkd (or libvirtd) puts all rules back and leaves guests alone; a
    rule by hand translates until then. Make the firewall's unit flush its own table only.
Sources: libvirt src/network/bridge_driver_linux.c (networkAddFirewallRules),
    https://github.com/firewalld/firewalld/issues/863
"""

from collections.abc import Iterator

from kvmdiag.actions.libvirt_network import RestartNetworkDaemon, can_restart
from kvmdiag.actions.rule import AppendRule, backend_in_use
from kvmdiag.diagnose.case import Case, address_fact, place
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.nets import connected
from kvmdiag.diagnose.rules import rules_lost
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack


def _restart(case: Case, stack: Stack) -> Iterator[Remedy]:
    """Libvirt's own way, where its daemon is to be reached."""
    if can_restart(case.snapshot, stack):
        yield (RestartNetworkDaemon(stack=stack.name),)


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.TABLES})
def fw_flush_lost_libvirt_rules(case: Case) -> Iterator[Suspicion]:
    """A guest of libvirt's NAT network leaves untranslated, and no rule is about its bridge."""
    for stack, routed in case.routers():
        bridge, source = routed.in_link, routed.packet.src
        if bridge is None or not rules_lost(case.snapshot, stack, bridge):
            continue
        subnet = next((n for n in connected(stack, bridge) if source in n), None)
        if subnet is None or not source.is_private:
            continue
        append = AppendRule(
            stack=stack.name,
            table="nat",
            chain="POSTROUTING",
            rule=f"-s {subnet} ! -d {subnet} -j MASQUERADE",
            backend=backend_in_use(stack),
            kept_by="systemctl restart virtnetworkd (or libvirtd) puts libvirt's own rules back",
        )
        yield Suspicion(
            subject=place(stack, bridge),
            summary=f"none of libvirt's rules for {bridge} ({subnet}) is there any more",
            evidence=(
                Evidence(f"no rule is about {bridge} or {subnet}", f"all tables of {stack.name}"),
                address_fact(stack, bridge),
            ),
            remedies=(*_restart(case, stack), (append,)),
            at=routed,
        )
