"""Processes to be killed at any moment.

They are copies of one whose imports are done, so that they begin at once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_COPIES = """
import os, signal, sys
sys.stdin.reconfigure(line_buffering=True)
while line := sys.stdin.readline():
    pid = os.fork()
    if not pid:
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 0)
        os.dup2(silence, 1)
        os._exit(victim(line.strip()) or 0)
    print(flush=True)
    sys.stdin.readline()
    os.kill(pid, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Victim:
    """A copy that runs."""

    _parent: subprocess.Popen[str]

    def kill(self) -> int:
        """Have it ended by ``kill -9``: -9, or the exit code that it had by itself."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write("\n")
        return int(self._parent.stdout.readline())


@contextmanager
def victims(code: str, *arguments: str) -> Iterator[Callable[[str], Victim]]:
    """A starter of copies, one after the other: each runs ``victim(TEXT)``, which ``code`` defines.

    What they complain of on their way is an error.
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", code + _COPIES, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def start(text: str) -> Victim:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(text + "\n")
        assert parent.stdout.readline(), parent.communicate(timeout=10)[1]
        return Victim(parent)

    try:
        yield start
        _, complaint = parent.communicate(timeout=20)
        assert "Traceback" not in complaint, complaint
    finally:
        parent.kill()
        parent.wait(timeout=10)
