"""A firewall meant for routed packets drops what a bridge carries between its own ports.

Symptom: guests on one bridge reach the bridge's address and not each other; ARP works, IP does
    not.
Cause: br_netfilter hands bridged frames to the ip chains (bridge-nf-call-iptables, or the bridge's
    own nf_call_iptables), and FORWARD drops them, often by a policy that Docker, ufw or a
    person has set.
Harmless when: FORWARD accepts what comes in and goes out by the bridge, its policy is accept, or
    neither switch is on. A policy of DROP by itself proves nothing.
Evidence: the frame ends at a rule or policy of the forward hook while it is bridged; one of the two
    switches is on. Forwarding may be off: bridged frames do not need it.
Fix: iptables -I FORWARD 1 -i BRIDGE -o BRIDGE -j ACCEPT (in DOCKER-USER where Docker is). Switching
    br_netfilter off as the last resort, because Docker and Kubernetes depend on it.
Sources: net/bridge/br_netfilter_hooks.c (br_nf_forward),
    https://wiki.libvirt.org/Net.bridge.bridge-nf-call_and_sysctl.conf.html.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from kvmdiag.actions.rule import InsertRule
from kvmdiag.actions.rule_changes import SetPolicy
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, chain_of, link_of, number, place, rule_fact, sysctl_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.model.link import Link
from kvmdiag.model.netfilter import Backend
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason, RuleRef, Stage

_SWITCH = {"ip": "net.bridge.bridge-nf-call-iptables", "ip6": "net.bridge.bridge-nf-call-ip6tables"}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.SYSCTLS, Facts.TABLES})
def bridge_nf_forward_drop(case: Case) -> Iterator[Suspicion]:
    """A bridged frame ends in the forward hook of the ip layer."""
    stack, rule = case.here, case.rule
    if case.reason is not Reason.NETFILTER or stack is None or rule is None or not rule.bridged:
        return
    bridge = _bridge(case, stack)
    if bridge is None or rule.family == "bridge" or case.end.stage is not Stage.FORWARD:
        return
    family = case.end.packet.family
    switch = _SWITCH[family]
    yield Suspicion(
        subject=place(stack, bridge.name),
        summary=f"frames bridged by {bridge.name} pass through {rule.chain} and are dropped there",
        evidence=(
            sysctl_fact(stack, switch),
            *_own_switch(stack, bridge, family),
            rule_fact(stack, rule),
        ),
        remedies=tuple(_remedies(stack, bridge, rule, family)),
    )


def _bridge(case: Case, stack: Stack) -> Link | None:
    for name in (case.end.out_link, case.end.in_link, case.end.link):
        link = link_of(stack, name)
        if link is not None and link.kind != "bridge":
            link = link_of(stack, link.master)
        if link is not None:
            return link
    return None


def _own_switch(stack: Stack, bridge: Link, family: str) -> Iterator[Evidence]:
    if bridge.bridge is None:
        return
    name = "nf_call_iptables" if family == "ip" else "nf_call_ip6tables"
    value = int(getattr(bridge.bridge, name))
    yield Evidence(
        f"{bridge.name} {name} {value}", f"ip -d link show {bridge.name} in {stack.name}"
    )


def _remedies(stack: Stack, bridge: Link, rule: RuleRef, family: str) -> Iterator[Remedy]:
    if rule.backend in ("iptables-nft", "iptables-legacy") and rule.table == "filter":
        docker = chain_of(stack, msgspec.structs.replace(rule, chain="DOCKER-USER", index=None))
        version: Literal["ip", "ip6"] = "ip" if family == "ip" else "ip6"
        backend: Backend = "iptables-nft"
        if rule.backend == "iptables-legacy":
            backend = "iptables-legacy"
        yield (
            InsertRule(
                stack=stack.name,
                chain="FORWARD" if docker is None else docker.name,
                rule=f"-i {bridge.name} -o {bridge.name} -j ACCEPT",
                family=version,
                backend=backend,
            ),
        )
        if rule.index is None:
            yield (SetPolicy(stack=stack.name, chain=rule.chain, family=version, backend=backend),)
    if number(stack, _SWITCH[family]):
        yield (SetSysctl(stack=stack.name, values=((_SWITCH[family], "0"),), disruptive=True),)
