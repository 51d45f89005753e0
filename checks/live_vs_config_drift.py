"""A guest, a network or a setting will be another one at its next start.

Symptom: a repair vanished, or an old fault came back, with a restart.
Cause: a guest was changed with --live only, or with --config only; a setting was written, and a
    file in sysctl.d has another value; a network of libvirt's has lost the rules that its
    definition asks for.
Harmless when: names that libvirt makes anew each time (targets, aliases) always differ; a setting
    that no path depends on; forwarding, which libvirt and Docker switch on themselves.
Evidence: libvirt's stored definition names other NICs than the running one. Or a file gives a
    setting another value, and with it a path fails that works now. Or no rule of any table
    translates a network that is defined with NAT.
Fix: the same change with both flags: virsh attach-interface ... --live --config; the right value
    in sysctl.d; for lost rules a restart of virtnetworkd (or libvirtd), which writes them anew.
    Starting the network anew does not bring back jumps that were flushed from FORWARD.
Sources: https://libvirt.org/manpages/virsh.html#device-commands, sysctl.d(5), libvirt
    src/network/bridge_driver.c (networkReloadFirewallRules)
"""

from collections.abc import Iterator
from ipaddress import ip_interface

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.reboot import contradicted
from kvmdiag.diagnose.rules import source_nats, translates
from kvmdiag.diagnose.survey import Survey, failure
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.DOMAINS})
def live_vs_config_drift(survey: Survey) -> Iterator[Suspicion]:
    """Each guest, setting and network that is not as its definition says."""
    yield from _guests(survey)
    yield from _settings(survey)
    yield from _networks(survey)


def _settings(survey: Survey) -> Iterator[Suspicion]:
    """Each setting whose stored value would break a path that works."""
    for lost in contradicted(survey.snapshot):
        broken = next(survey.broken_by(lost.after), None)
        if broken is not None:
            yield Suspicion(
                subject=lost.subject,
                severity=Severity.WARNING,
                summary=f"{lost.what} after a reboot: {failure(*broken)} then",
                evidence=(Evidence(lost.what, lost.where),),
            )


def _networks(survey: Survey) -> Iterator[Suspicion]:
    """Each NAT network that nothing translates; with guests on it, a path that fails tells more."""
    host = survey.host
    for network in survey.snapshot.networks or ():
        if host is None or host.tables is None or network.bridge is None:
            continue
        if not network.active or network.mode != "nat" or ports_of(host, network.bridge):
            continue
        for text in network.addresses:
            own = ip_interface(text)
            done = any(translates(placed.rule, own.ip) for placed in source_nats(host))
            if own.version == 6 or done:
                continue  # IPv6 is translated only when the definition says so
            yield Suspicion(
                subject=f"{host.name}/{network.bridge}",
                severity=Severity.WARNING,
                summary=f"network {network.name} is defined with NAT, and no rule translates "
                f"{own.network}: guests that start on it get no further than {host.name}",
                evidence=(
                    Evidence("<forward mode='nat'/>", f"libvirt network {network.name}"),
                    Evidence(f"no rule translates {own.network}", f"all tables of {host.name}"),
                ),
            )


def _guests(survey: Survey) -> Iterator[Suspicion]:
    """Each guest whose next start has other NICs."""
    for domain in survey.snapshot.domains or ():
        if domain.stored_nics is None or domain.state == "shutoff":
            continue
        now, then = (
            {(n.mac, n.source) for n in nics} for nics in (domain.nics, domain.stored_nics)
        )
        if now == then:
            continue
        changes = [
            f"{word} {mac} on {source}"
            for word, cards in (("loses", now - then), ("gets", then - now))
            for mac, source in sorted(cards, key=str)
        ]
        yield Suspicion(
            subject=domain.name,
            summary=f"the NICs of {domain.name} are others at its next start: it "
            + " and ".join(changes),
            evidence=(Evidence("the two differ", f"virsh dumpxml {domain.name} [--inactive]"),),
        )
