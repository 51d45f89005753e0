"""A host with many guests is judged by few walks, also when something is wrong with all of them.

How long a walk takes is measured in bench/, on real namespaces.
"""

import msgspec
import pytest

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose import state

from .build import judge
from .many import host_with


@pytest.fixture
def walks(monkeypatch):
    """The questions that were walked, in order."""
    made = []
    walk = state.walk

    def counted(snapshot, question, **more):
        made.append(question)
        return walk(snapshot, question, **more)

    monkeypatch.setattr(state, "walk", counted)
    return made


def test_two_hundred_guests_in_health_take_one_walk_a_path(walks):
    """A thousand paths, default libvirt rules."""
    report = judge(host_with(200))
    assert (report.verdict, report.findings) == ("healthy", ())
    assert len(report.paths) > 900
    assert len(walks) == len(report.paths)


def test_one_fault_that_concerns_all_is_told_once(walks):
    """Forwarding off on the host: each path is walked as it is and as it is cured."""
    off = SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "0"),))
    report = judge(off.apply(host_with(100)))
    assert [f.check for f in report.findings] == ["ip-forward-off"]
    assert len(walks) < 3 * len(report.paths)


def test_what_nothing_cures_is_not_tried_for_every_guest(walks):
    """No program serves DNS on the bridge."""
    snapshot = host_with(100)
    host = msgspec.structs.replace(snapshot.stack("host"), sockets=())
    report = judge(snapshot.with_stack(host))
    assert report.verdict == "faulty"
    assert len(walks) < 2 * len(report.paths)
