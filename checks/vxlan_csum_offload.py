"""An overlay's checksum offload may break TCP.

Symptom: through an overlay ping works and TCP takes a minute, or never works.
Cause: some NICs and kernels compute wrong checksums for what is inside VXLAN
    (tx-checksum-ip-generic).
Harmless when: it is right on good hardware and kernels.
Evidence: the asked path leaves by a VXLAN link with that offload on.
Fix: ethtool -K IF tx-checksum-ip-generic off.
Sources: https://github.com/projectcalico/calico/issues/3145
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS})
def vxlan_csum_offload(survey: Survey) -> Iterator[Suspicion]:
    """The asked packet goes by a VXLAN link that leaves checksums to the NIC."""
    for case in survey.cases() if survey.question is not None else ():
        for hop in case.walk.request.hops if case.walk.question == survey.question else ():
            stack = case.stack(hop.stack)
            link = None if stack is None else link_of(stack, hop.out_link)
            if stack is None or link is None or link.kind != "vxlan":
                continue
            if "tx-checksum-ip-generic" in (link.offloads or ()):
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.name} leaves checksums to the NIC, which some compute wrongly",
                    evidence=(Evidence("tx-checksum-ip-generic: on", f"ethtool -k {link.name}"),),
                    proof="the receiver's Udp InCsumErrors or TcpExt InCsumErrors rise (nstat -az)",
                )
                return
