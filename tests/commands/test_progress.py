"""What takes long says on a terminal what it is doing, and nothing anywhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

# A host that takes its time, and a user without patience. Twelve times a second is shown.
_AT_ONCE = """
import sys, time
from kvmdiag.collect import stacks
from kvmdiag.commands import terminal
from kvmdiag.commands.main import main
terminal.PATIENCE = 0.0
read = stacks.read_stack
stacks.read_stack = lambda *given: time.sleep(0.1) or read(*given)
sys.exit(main(sys.argv[1:]))
"""


def _shown(host, *words):
    """What a terminal shows of a command's standard error."""
    master, slave = pty.openpty()
    program = subprocess.Popen(
        ["ip", "netns", "exec", host.name, sys.executable, "-c", _AT_ONCE, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            block = os.read(master, 4096)
        except OSError:  # its end is told so (EIO, pty(7))
            break
        if not block:
            break
        shown += block
    os.close(master)
    assert program.wait(timeout=30) == 0
    return shown.decode()


def test_reading_says_how_far_it_has_come(namespaces, tmp_path):
    """Which stack of how many; the line is gone in the end."""
    host = namespaces("host")
    for number in range(5):
        guest = namespaces(f"guest{number}")
        host.cable(f"vnet{number}", guest, "eth0")
        guest.run("iptables-nft -A FORWARD -j ACCEPT")
    file = str(tmp_path / "host.kvm")
    shown = _shown(host, "snapshot", "-o", file)
    assert "of 6 stacks ..." in shown
    assert shown.rstrip().splitlines()[-1].find("...") == -1
    assert "reading" not in _shown(host, "snapshot", "-q", "-o", file)


def test_no_terminal_is_told_nothing(namespaces, tmp_path):
    """Logs and pipes get the result only."""
    host = namespaces("host")
    done = host.run([sys.executable, "-c", _AT_ONCE, "snapshot", "-o", str(tmp_path / "host.kvm")])
    assert "reading" not in done.stderr
    assert "saved to" in done.stderr
