"""A virtual function does not let its guest's MAC address pass.

Symptom: a guest on a virtual function is silent after it changed its MAC address or VLAN.
Cause: spoof checking is on and the function is not trusted, or its link state is disabled.
Harmless when: the guest uses the MAC address that the function was given.
Evidence: the guest's own NIC has another MAC address than its function; or the function is
    disabled.
Fix: ip link set PF vf N mac MAC; or trust on and spoofchk off, where the guest may be trusted.
Sources: ip-link(8) (vf)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def sriov_vf_spoof_trust(survey: Survey) -> Iterator[Suspicion]:
    """Each function that is disabled, or whose guest's NIC has another address."""
    for stack in survey.stacks:
        for link in stack.links or ():
            for function in link.virtual_functions:
                subject = f"{place(stack, link.name)} vf {function.index}"
                if function.link_state == "disable":
                    yield Suspicion(
                        subject=subject,
                        summary=f"virtual function {function.index} of {link.name} is disabled",
                        evidence=(Evidence("link-state disable", f"ip link show {link.name}"),),
                    )
                elif function.spoof_check and not function.trust and function.mac:
                    yield Suspicion(
                        subject=subject,
                        summary=f"virtual function {function.index} of {link.name} passes "
                        f"{function.mac} only",
                        evidence=(Evidence("spoof checking on", f"ip link show {link.name}"),),
                        severity=Severity.INFO,
                        proof="compare with the guest's MAC address; dmesg: spoofed packets "
                        "detected",
                    )
