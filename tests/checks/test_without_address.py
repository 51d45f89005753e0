"""A guest that has lost its address, or never got one, can be asked about like any other."""

import json

import pytest

from kvmdiag.commands import main as entry
from kvmdiag.model import codec
from kvmdiag.model.stack import Neighbour

from .build import found, judge
from .many import host_with
from .recorded import MAC0, every, no_address, stack

LOST = no_address("eth0", "vm0")


def reported(arguments, capsys, tmp_path, snapshot):
    """Exit code and report of ``check`` over a snapshot in a file."""
    file = tmp_path / "snapshot"
    file.write_bytes(codec.save(snapshot))
    options = ["--snapshot", str(file), "--format", "json"]
    code = entry.main(["check", *arguments, *options])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "asked", [["vm0", "10.0.0.9"], ["vm0"], ["vm1", "vm0"], ["10.0.0.9", "vm0"], []]
)
def test_it_is_named_whoever_asks(asked, capsys, tmp_path):
    """As the source, as the destination, alone, and when nobody is named."""
    code, report = reported(asked, capsys, tmp_path, LOST(host_with(2)))
    causes = [(f["check"], f["subject"]) for f in report["findings"] if f["role"] == "cause"]
    assert (code, causes) == (1, [("guest-no-lease-or-address", "vm0/eth0")])


def test_what_a_neighbour_remembers_is_put_back():
    """The address first, and then the default route that went with it."""
    entry_ = Neighbour(link="virbr0", address="192.168.1.1", mac=MAC0, state="stale")
    snapshot = every(LOST, stack(neighbours=(entry_,)))(host_with(2))
    report = judge(snapshot, "vm0", "10.0.0.9")
    (cause,) = found(report, "guest-no-lease-or-address")
    assert cause.verified
    assert report.plan is not None
    assert report.plan.works
    assert [step.command for step in report.plan.steps] == [
        "ip addr add 192.168.1.1/16 dev eth0",
        "ip route add default via 192.168.0.1 dev eth0",
    ]


def test_a_guest_that_has_none_is_no_fault_of_the_others():
    """Paths of vm1 are judged as ever."""
    report = judge(LOST(host_with(2)), "vm1", "10.0.0.9")
    assert report.walk is not None
    assert report.walk.works
    assert [f.role for f in found(report, "guest-no-lease-or-address")] == ["latent"]
