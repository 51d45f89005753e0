"""Without rights: what is open to everybody is read, and everything else is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kvmdiag.model.codec import load

_READ_AS_NOBODY = """
import os, sys
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.codec import save
collect(Scope(libvirt=False))  # everything is imported while it may be
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.stdout.buffer.write(save(collect(Scope(libvirt=False, include=(sys.argv[1],)))))
"""


def _as_nobody(inside, asked):
    """A snapshot taken in the namespace ``inside`` by a user without rights."""
    done = subprocess.run(
        ["ip", "netns", "exec", inside.name, sys.executable, "-c", _READ_AS_NOBODY, asked.name],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
    )
    return load(done.stdout)


def test_without_rights_the_own_namespace_is_read(namespaces):
    """Links, addresses, routes and the like are open to everybody."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    stack = _as_nobody(host, guest).stack("host")
    assert {link.name for link in stack.links} == {"lo", "vnet0"}
    for fact in ("addresses", "routes", "policy_rules", "neighbours", "fdb", "sysctls"):
        assert getattr(stack, fact) is not None, fact


def test_without_rights_another_namespace_is_a_gap(namespaces):
    """It is known to be there, at the end of the cable, and what would help is said."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    snapshot = _as_nobody(host, guest)
    stack = snapshot.stack(guest.name)
    assert (stack.links, stack.addresses, stack.sysctls, stack.tables) == (None,) * 4
    (gap,) = (gap for gap in snapshot.gaps if gap.stack == guest.name)
    assert gap.fact == "all"
    assert "not allowed to enter" in gap.why
    assert "root" in gap.help
    (tap,) = (link for link in snapshot.stack("host").links if link.name == "vnet0")
    assert (tap.guest, tap.is_uplink) == (guest.name, False)


def test_without_rights_a_cable_to_an_unseen_process_is_a_gap(namespaces, eventually):
    """A container's namespace cannot be told from others; the cable to it can be seen."""
    host = namespaces("host")
    program = host.start("unshare --net sleep 60")
    comm = Path(f"/proc/{program.pid}/comm")
    eventually(lambda: comm.read_text() == "sleep\n", "sleep did not start")
    host.ip(f"link add vnet0 type veth peer name eth0 netns {program.pid}")
    snapshot = _as_nobody(host, host)
    assert [stack.name for stack in snapshot.stacks] == ["host"]
    (gap,) = (gap for gap in snapshot.gaps if gap.fact == "peers")
    assert (gap.stack, "vnet0" in gap.why, "root" in gap.help) == ("host", True, True)


def test_every_missing_fact_has_its_gap(namespaces):
    """Nothing is left out without a word; connections nobody asked for are not missing."""
    snapshot = _as_nobody(namespaces("host"), namespaces("guest"))
    for stack in snapshot.stacks:
        told = {gap.fact for gap in snapshot.gaps if gap.stack == stack.name}
        missing = {f for f in stack.__struct_fields__ if getattr(stack, f) is None} - {"flows"}
        assert missing <= told or "all" in told
    assert {"domains", "networks"} <= {gap.fact for gap in snapshot.gaps}
