"""A Wi-Fi station is a port of a bridge, or the lower link of a macvtap.

Symptom: "can't add wlan0 to bridge: Operation not supported"; or guests send DHCP requests and
    get nothing.
Cause: a station's frames carry its own MAC address only; the access point throws away others, and
    sends none to them.
Harmless when: the interface is an access point, or uses four addresses (WDS).
Evidence: the interface is a station without 4addr, and a bridge or a macvtap hangs on it.
Fix: a NAT network, or a routed one with proxy ARP.
Sources: IEEE 802.11 section 9.3.2, https://wiki.linuxfoundation.org/networking/bridge
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS})
def wifi_cannot_bridge(survey: Survey) -> Iterator[Suspicion]:
    """Each station that others hang on."""
    for stack in survey.stacks:
        for link in stack.links or ():
            radio = link.wireless
            if radio is None or radio.mode not in ("managed", "station") or radio.four_addresses:
                continue
            users = [
                other.name
                for other in stack.links or ()
                if other.lower == link.name and other.kind in ("macvtap", "macvlan")
            ]
            if link.master is not None:
                users.append(link.master)
            if users:
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.name} is a Wi-Fi station, which carries no frames for "
                    f"{', '.join(users)}",
                    evidence=(
                        Evidence(f"mode {radio.mode}, 4addr off", f"iw dev {link.name} info"),
                    ),
                )
