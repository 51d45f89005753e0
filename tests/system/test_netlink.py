"""Questions to the kernel: whole answers, one by one, or a refusal that says why."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kvmdiag.system.namespaces import entered
from kvmdiag.system.netlink import Netlink, NetlinkError

_GETLINK = 18
_LINKS = struct.pack("=BxHiII", 0, 0, 0, 0, 0)

_AS_NOBODY = """
import os
from kvmdiag.collect.flows.table import flows_among
from kvmdiag.errors import NotReadableError
from kvmdiag.collect.netfilter.nf_netlink import table_names
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    table_names()
except PermissionError as error:
    print("tables:", error.strerror)
try:
    flows_among(["192.0.2.1", "192.0.2.2"])
except NotReadableError as error:
    print("flows:", error)
"""


def test_a_dump_is_the_same_all_at_once_and_one_by_one(namespaces):
    """Every link, more than fit one datagram."""
    host = namespaces("host")
    host.ip(*(f"link add b{number} type bridge" for number in range(40)))
    with entered(host.path), Netlink() as kernel:
        together = kernel.dump(_GETLINK, _LINKS)
        assert len(together) == 41
        assert [message[:16] for message in kernel.each(_GETLINK, _LINKS)] == [
            message[:16] for message in together
        ]


def test_an_answer_that_is_not_read_to_its_end_disturbs_no_other(namespaces):
    """Its rest is not taken for an answer to something else."""
    with entered(namespaces("host").path), Netlink() as kernel:
        assert next(iter(kernel.each(_GETLINK, _LINKS)))
        assert len(kernel.dump(_GETLINK, _LINKS)) == 1


def test_a_refusal_is_an_error_with_its_number(namespaces):
    """A question this kernel does not know."""
    with entered(namespaces("host").path), Netlink() as kernel:
        with pytest.raises(NetlinkError) as refusal:
            kernel.dump(0xFFF0, bytes(16))
        assert refusal.value.errno == errno.EOPNOTSUPP


def test_without_rights_it_is_a_matter_of_rights(namespaces):
    """So that people are told to run it as root, and not to look for a fault."""
    done = subprocess.run(
        ["ip", "netns", "exec", namespaces("host").name, sys.executable, "-c", _AS_NOBODY],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "tables: Operation not permitted",
        "flows: not allowed to read the conntrack table: run as root",
    ]
