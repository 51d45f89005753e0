"""A trace that is killed at any moment leaves nothing behind."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from kvmdiag.lab import manager

pytestmark = pytest.mark.kernel

_MOMENTS = 10
_EARLIEST, _LATEST = 0.2, 1.6
_LOOK = (
    "ip -d -o link", "nft -s list ruleset", "tc qdisc show", "ip rule", "ip route show table all",
    "sysctl -a --pattern ^net\\.(bridge|netfilter|ipv4|ipv6)\\.",
)  # fmt: skip
# What goes on by itself: caches, timers and numbers of the moment.
_RESTLESS = ("random", "uuid", "fs.", "tcp_mem", "nf_conntrack_count", "tcp_fastopen_key")


@pytest.fixture
def net() -> Iterator[str]:
    """A cluster of this test's own."""
    label = manager.up("cluster", label=f"kill{os.getpid()}")
    try:
        yield label
    finally:
        manager.down(label)


def _run(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def state(label: str) -> dict[str, list[str]]:
    """Links with their promiscuity, rules, qdiscs, sysctls, capture sockets and processes."""
    found = {}
    for machine in ("host", "master", "node1"):
        name = f"kvmdiag-{label}-{machine}"
        inside = ["ip", "netns", "exec", name]
        lines: list[str] = []
        for command in _LOOK:
            lines += _run([*inside, *command.split()]).splitlines()
        lines += [f"packet socket {n}" for n in _sockets(inside)]
        lines += _run(["ip", "netns", "pids", name]).split()
        calm = (re.sub(r"\w+_timer +\S+", "", line) for line in lines)
        found[machine] = [line for line in calm if not any(w in line for w in _RESTLESS)]
    return found


def _sockets(inside: list[str]) -> list[str]:
    return _run([*inside, "cat", "/proc/net/packet"]).splitlines()[1:]


def test_kill_9_at_ten_moments(net: str, eventually: Callable[..., None]) -> None:
    """Each at a random moment of traces that follow one another, on the tap and from inside."""
    before = state(net)
    chance = random.Random()
    for number in range(_MOMENTS):
        how = ["--on-tap"] if number % 2 else []
        program = subprocess.Popen(
            [sys.executable, "-m", "kvmdiag", "--lab", net, "trace", "node1", "10.0.0.9",
             "--count", "500", "--interval", "0.01", *how],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        time.sleep(chance.uniform(_EARLIEST, _LATEST))
        assert program.poll() is None, program.stderr and program.stderr.read()
        program.kill()
        program.communicate(timeout=10)
    eventually(lambda: state(net) == before, "something stays", seconds=10)
