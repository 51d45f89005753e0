"""A guest's port on Open vSwitch may be dead or in the wrong VLAN.

Symptom: a guest on Open vSwitch reaches nobody.
Cause: tag 4095 (Neutron's dead VLAN), a wrong tag, a port with an error, or fail_mode secure
    without flows.
Harmless when: secure with a controller's flows is right.
Evidence: the guest's tap is a port of Open vSwitch, of whose tables nothing can be read here.
Fix: set the tag, or restart the agent that does.
Sources: https://docs.openvswitch.org/en/latest/faq/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity


@check(severity=Severity.WARNING, needs={Facts.LINKS})
def ovs_port_dead_or_untagged(case: Case) -> Iterator[Suspicion]:
    """A path that is not known to work, with a cable in Open vSwitch."""
    passed = {(hop.stack, hop.link) for hop in case.walk.hops}
    for stack, link in case.guest_cables():
        if link.master == "ovs-system" and (stack.name, link.name) in passed:
            yield Suspicion(
                subject=place(stack, link.name),
                summary=f"{link.name} is a port of Open vSwitch, whose tables decide its fate",
                evidence=(link_fact(stack, link),),
                proof=f"ovs-vsctl list port {link.name} (tag, status); ovs-appctl ofproto/trace",
            )
