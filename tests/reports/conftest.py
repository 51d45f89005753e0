"""Reports and walks made by hand: nothing here touches a system."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from kvmdiag.model.packet import Direction, Packet
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.report import Evidence, Finding, Plan, Report, Severity, Skipped, Step
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.trace import Hop, Outcome, Reason, RuleRef, Stage, Trace, Walk

NODE1 = IPv4Address("192.168.48.20")
HOST = IPv4Address("10.0.0.10")
OUTSIDE = IPv4Address("10.0.0.9")
HOSTILE = 'evil\x1b[2J\n</testcase>"\u202e\x00'

QUESTION = Question(
    source=Endpoint(text="node1", stack="node1"),
    destination=Endpoint(text="10.0.0.9", address="10.0.0.9"),
)
POLICY = RuleRef(
    stack="host",
    family="ip",
    backend="iptables-nft",
    table="filter",
    chain="FORWARD",
    index=None,
    text="-P FORWARD DROP",
    bridged=True,
)


def hop(
    stack: str,
    link: str,
    stage: Stage,
    *,
    src: IPv4Address = NODE1,
    dst: IPv4Address = OUTSIDE,
    direction: Direction = "request",
    because: str = "",
) -> Hop:
    """One hop, with a decision of no interest."""
    return Hop(
        direction=direction,
        stack=stack,
        link=link,
        stage=stage,
        packet=Packet(src=src, dst=dst),
        decision="goes on",
        because=because,
    )


def step(command: str, *, where: str = "host", undo: str = "true") -> Step:
    """One step of a plan."""
    return Step(
        check="bridge-nf-forward-drop",
        where=where,
        command=command,
        undo=undo,
        persist="write it to /etc/sysctl.d/90-kvmdiag.conf",
    )


WORKING = Walk(
    question=QUESTION,
    request=Trace(
        direction="request",
        outcome=Outcome.LEFT,
        reason=Reason.LEFT,
        hops=(
            hop("node1", "ens6", Stage.EGRESS),
            hop("host", "vnet3", Stage.BRIDGE),
            hop("host", "eno1", Stage.EGRESS, src=HOST),
        ),
        assumptions=("the outside answers",),
    ),
    reply=Trace(
        direction="reply",
        outcome=Outcome.DELIVERED,
        reason=Reason.ARRIVED,
        hops=(hop("node1", "ens6", Stage.DELIVER, src=OUTSIDE, dst=NODE1, direction="reply"),),
    ),
)
BROKEN = Walk(
    question=QUESTION,
    request=Trace(
        direction="request",
        outcome=Outcome.DROPPED,
        reason=Reason.NETFILTER,
        hops=(
            hop("node1", "ens6", Stage.EGRESS),
            hop("host", "vnet3", Stage.INGRESS),
            hop("host", "mybr0", Stage.FORWARD, because="policy DROP"),
        ),
    ),
)
CAUSE = Finding(
    check="bridge-nf-forward-drop",
    severity=Severity.ERROR,
    role="cause",
    subject="host/mybr0",
    summary="frames bridged on mybr0 are dropped by iptables FORWARD's policy DROP",
    evidence=(
        Evidence(
            fact="net.bridge.bridge-nf-call-iptables = 1",
            origin="/proc/sys/net/bridge/bridge-nf-call-iptables in host",
        ),
        Evidence(fact="policy DROP", origin=str(POLICY)),
    ),
    fix=(step("iptables -I FORWARD -i mybr0 -o mybr0 -j ACCEPT", undo="iptables -D FORWARD 1"),),
    verified=True,
)
FAULTY = Report(
    verdict="faulty",
    question=QUESTION,
    findings=(CAUSE,),
    walk=BROKEN,
    plan=Plan(steps=CAUSE.fix, outcome_after=Outcome.LEFT, works=True, walk=WORKING),
    skipped=(Skipped(check="masquerade-missing", needs="networks", why="libvirt is not running"),),
    gaps=(Gap(stack=None, fact="networks", why="libvirt is not running", help="start libvirtd"),),
)
HEALTHY = Report(verdict="healthy", question=QUESTION, walk=WORKING)


@pytest.fixture
def faulty() -> Report:
    """node1 to 10.0.0.9, dropped on the bridge, with a proved plan."""
    return FAULTY


@pytest.fixture
def healthy() -> Report:
    """node1 to 10.0.0.9, which works."""
    return HEALTHY


@pytest.fixture
def hostile() -> Report:
    """A report in which everything that others choose is meant to do harm."""
    finding = Finding(
        check="tap-admin-down",
        severity=Severity.ERROR,
        role="cause",
        subject=f"host/{HOSTILE}",
        summary=f"{HOSTILE} is down",
        evidence=(Evidence(fact=HOSTILE, origin=HOSTILE),),
        fix=(step(f"ip link set {HOSTILE} up", where=HOSTILE, undo=HOSTILE),),
    )
    return Report(
        verdict="faulty",
        question=Question(
            source=Endpoint(text=HOSTILE, stack=HOSTILE, assumed=(HOSTILE,)),
            destination=Endpoint(text="10.0.0.9", address="10.0.0.9"),
        ),
        findings=(finding,),
        plan=Plan(steps=finding.fix, outcome_after=Outcome.LEFT, works=None),
        skipped=(Skipped(check="x", needs=HOSTILE, why=HOSTILE),),
        gaps=(Gap(stack=HOSTILE, fact="tables", why=HOSTILE, help=HOSTILE),),
    )
