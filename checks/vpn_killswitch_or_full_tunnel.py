"""A VPN's kill switch drops what guests send by any way but the tunnel.

Symptom: guests are offline while the VPN is up, or altogether since it was installed; the host is
    fine.
Cause: a rule of the VPN drops forwarded packets that do not leave by the tunnel, or routes of the
    tunnel take all traffic and nobody translates it there.
Harmless when: guests are meant to use the tunnel, and do.
Evidence: a routed packet ends at a rule that names the tunnel (wg0, tun0), negated or as its way
    out.
Fix: let the guests' bridge pass the kill switch, or translate them to the tunnel's address.
Sources: wg-quick(8), https://github.com/stangri/source.openwrt.melmac.net/issues/60
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import both_ways
from kvmdiag.diagnose.case import Case, chain_of, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage

_TUNNELS = ("wg", "tun", "ppp", "tailscale", "nordlynx", "proton", "mullvad")


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def vpn_killswitch_or_full_tunnel(case: Case) -> Iterator[Suspicion]:
    """A routed packet ends at a rule that is about a tunnel."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    chain = chain_of(stack, rule)
    if end.stage is not Stage.FORWARD or rule.index is None or chain is None:
        return
    tunnels = [
        name
        for part in chain.rules[rule.index].body
        if isinstance(part, InterfaceIs)
        for name in part.names
        if name.startswith(_TUNNELS)
    ]
    if not tunnels:
        return
    remedy = both_ways(stack, rule, end)
    yield Suspicion(
        subject=place(stack, tunnels[0]),
        summary=f"a rule about {tunnels[0]} keeps guests of {end.in_link} from leaving by "
        f"{end.out_link}",
        evidence=(rule_fact(stack, rule),),
        remedies=(remedy,) if remedy else (),
    )
