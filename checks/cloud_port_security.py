"""The cloud may drop what a guest inside a cloud instance sends.

Symptom: an OpenStack or EC2 instance cannot route for others, take over an address or hold guests
    of its own.
Cause: port security lets only the instance's own addresses pass; EC2 checks source and
    destination.
Harmless when: the guests are translated to the instance's own address.
Evidence: a packet leaves by a NIC of a cloud instance with a source that is not its own.
Fix: allowed-address-pairs or no port security in Neutron; source/destination check off in EC2; or
    NAT.
Sources: https://docs.openstack.org/neutron/latest/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_of, owns, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import left_by
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity

_CLOUDS = {"fa:16:3e": "OpenStack", "06:": "EC2", "0a:": "EC2"}


@survey_check(severity=Severity.INFO, needs={Facts.LINKS, Facts.ADDRESSES})
def cloud_port_security(survey: Survey) -> Iterator[Suspicion]:
    """The asked packet left a NIC of a cloud instance under another address."""
    for case in survey.cases() if survey.question is not None else ():
        place_left = left_by(case.walk)
        stack = None if place_left is None else case.stack(place_left.stack)
        link = None if stack is None or place_left is None else link_of(stack, place_left.link)
        if case.walk.question != survey.question or stack is None or link is None:
            continue
        cloud = next(
            (name for mac, name in _CLOUDS.items() if (link.mac or "").startswith(mac)), ""
        )
        source = case.walk.request.end.packet.src
        if cloud and not owns(stack, source):
            yield Suspicion(
                subject=place(stack, link.name),
                summary=f"{source} leaves by {link.name}, a NIC of {cloud} by its MAC address, "
                "which may let only its own addresses pass",
                evidence=(Evidence(f"{link.name} is {link.mac}", f"ip link in {stack.name}"),),
                proof="the port's security settings in the cloud; tcpdump shows no answer "
                "coming in",
            )
