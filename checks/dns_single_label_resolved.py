"""A guest's resolver does not ask the network's DNS for names without a dot.

Symptom: ping master fails, while dig master @server or the full name works.
Cause: systemd-resolved sends no single labels to unicast DNS, and no search domain makes them
    longer.
Harmless when: names with a dot are used; dig without +search is no proof;
    ResolveUnicastSingleLabel=yes.
Evidence: the guest's resolv.conf names 127.0.0.53 and no search domain.
Fix: a domain for the network: <domain name='x' localOnly='yes'/>, or domain= and expand-hosts in
    dnsmasq; renew the lease.
Sources: resolved.conf(5), https://github.com/systemd/systemd/issues/2514
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.GUESTS})
def dns_single_label_resolved(survey: Survey) -> Iterator[Suspicion]:
    """Each guest with the stub resolver and no search domain."""
    for inside in survey.snapshot.guests or ():
        resolver = inside.resolver
        if resolver is None or resolver.search or "127.0.0.53" not in resolver.nameservers:
            continue
        yield Suspicion(
            subject=inside.domain,
            summary=f"{inside.domain} has no search domain: names without a dot are not looked up",
            evidence=(
                Evidence("nameserver 127.0.0.53, no search", f"resolv.conf of {inside.domain}"),
            ),
        )
