"""A trace that is killed at any moment leaves nothing behind."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Callable

import pytest

from ..probes.killed import victims  # noqa: TID252 - a helper of the neighbouring tests

pytestmark = pytest.mark.kernel

_MANY = "--count 500 --interval 0.01"
_UNANSWERED = "192.168.48.77"
# Each is killed once; what asks for nobody, or in vain, lasts as long as it is allowed to.
_TRACES = (
    f"10.0.0.9 {_MANY}",
    f"10.0.0.9 {_MANY} --on-tap",
    f"10.0.0.9 {_MANY} --tcp 9",
    f"10.0.0.9 {_MANY} --udp 9 --on-tap",
    "10.0.0.9 --watch --interval 0.01",
    f"{_UNANSWERED} --mtu --timeout 5",
    "10.0.0.9 --mtu --on-tap",
    "dhcp",
    "dhcp --on-tap",
    f"arp {_UNANSWERED} --timeout 5",
)
_EARLIEST, _LATEST = 0.1, 0.5
_LEAST_ALIVE = 6
_COMMAND = """
import sys
from kvmdiag.commands.main import main
lab = ["--lab", sys.argv[1]]
main([*lab, "trace", "node1", "10.0.0.9", "--output", "/dev/null"])

def victim(how):
    return main([*lab, "trace", "node1", *how.split()])
"""
_LOOK = (
    "ip -d -o link", "nft -s list ruleset", "tc qdisc show", "ip rule", "ip route show table all",
    "sysctl -a --pattern ^net\\.(bridge|netfilter|ipv4|ipv6)\\.",
)  # fmt: skip
# What goes on by itself: caches, timers and numbers of the moment.
_RESTLESS = ("random", "uuid", "fs.", "tcp_mem", "nf_conntrack_count", "tcp_fastopen_key")


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


def test_kill_9_at_ten_moments(cluster: str, eventually: Callable[..., None]) -> None:
    """Each at a random moment of a trace of another kind, on the tap and from inside."""
    before = state(cluster)
    chance = random.Random()
    alive = 0
    with victims(_COMMAND, cluster) as start:
        for how in _TRACES:
            tracing = start(how)
            time.sleep(chance.uniform(_EARLIEST, _LATEST))
            code = tracing.kill()
            assert code != 2, how
            alive += code == -9
    assert alive >= _LEAST_ALIVE
    eventually(lambda: state(cluster) == before, "something stays", seconds=10)
