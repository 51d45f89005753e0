"""``fix`` on the practice cluster: whatever happens, the network is cured or as it was."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmdiag.lab import manager
from kvmdiag.lab.spec import namespace

pytestmark = pytest.mark.kernel


def inside(label: str, machine: str, command: str) -> str:
    """What a command says in a machine."""
    argv = ["ip", "netns", "exec", namespace(label, machine), *shlex.split(command)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip()


@pytest.fixture
def broken(cluster: str) -> Iterator[str]:
    """Two faults on the way, each with a step of its own; afterwards there are none."""
    for fault in ("ip-forward-off@master", "masquerade-missing@host"):
        manager.break_(cluster, fault)
    yield cluster
    manager.mend(cluster)


@pytest.fixture
def deaf(broken: str) -> str:
    """The same, and the machine outside answers nobody: the plan works, the packet gets lost."""
    inside(broken, "outside", "iptables -A INPUT -p icmp -j DROP")
    return broken


def is_as_it_was(label: str) -> bool:
    """Whether both faults are there still, and nothing else."""
    forward = inside(label, "master", "sysctl -n net.ipv4.ip_forward")
    return forward == "0" and "MASQUERADE" not in inside(label, "host", "iptables-save -t nat")


def fix(label: str, log: Path, *words: str) -> subprocess.Popen[str]:
    """The command, started; what it prints comes by a pipe."""
    argv = [sys.executable, "-m", "kvmdiag", "--lab", label, "fix", "node1", "10.0.0.9", *words]
    return subprocess.Popen([*argv, "--log", str(log)], stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and all that was printed."""
    out, _ = process.communicate(timeout=60)
    return process.returncode, out


def test_cured_and_probed(broken: str, tmp_path: Path) -> None:
    """Both steps are carried out, a real packet gets through, the log says how to go back."""
    code, out = finished(fix(broken, tmp_path / "log", "--yes"))
    assert code == 0, out
    assert "Cured: node1 reaches 10.0.0.9; a real packet gets through." in out
    assert inside(broken, "node1", "ping -n -c1 -W2 10.0.0.9")
    text = (tmp_path / "log").read_text()
    assert text.count("to undo step") == 2
    for line in text.splitlines():
        if "to undo step" in line:
            subprocess.run(shlex.split(line.partition(": ")[2]), check=True, capture_output=True)
    assert is_as_it_was(broken), "the log's undo lines do not undo"


def test_dry_run_changes_nothing(broken: str, tmp_path: Path) -> None:
    """It shows the plan and exits with 1, for the path does not work."""
    code, out = finished(fix(broken, tmp_path / "log", "--dry-run"))
    assert (code, out.count("undo  ")) == (1, 2)
    assert is_as_it_was(broken)


def test_rolled_back_when_the_real_packet_is_lost(deaf: str, tmp_path: Path) -> None:
    """The simulation cannot know that nobody outside answers; the probe does."""
    code, out = finished(fix(deaf, tmp_path / "log", "--yes", "--timeout", "1"))
    assert code == 1
    assert "Not cured: a real packet got no answer" in out
    assert is_as_it_was(deaf)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_rolled_back_when_interrupted(
    number: signal.Signals, deaf: str, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    """While it waits for the answer; a second signal during the rollback changes nothing."""
    log = tmp_path / "log"

    def said(words: str) -> bool:
        return log.exists() and words in log.read_text()

    with fix(deaf, log, "--yes", "--timeout", "600") as process:
        try:
            eventually(lambda: said("done 2/2"), "the steps were never carried out", seconds=30)
            process.send_signal(number)
            eventually(lambda: said("Interrupted"), "nothing came of the signal", seconds=30)
            process.send_signal(number)
            code = process.wait(timeout=30)
        finally:
            process.kill()
    # The second one may come when all is done and Python is about to end.
    assert code in (128 + number, -number)
    assert is_as_it_was(deaf)
    assert log.read_text().count("undone: ") == 2


def test_rolled_back_when_nobody_reads_any_more(deaf: str, tmp_path: Path) -> None:
    """``fix | head -1``: what it wants to say has nowhere to go, and it still goes back."""
    with fix(deaf, tmp_path / "log", "--yes", "--timeout", "1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=60)
    assert is_as_it_was(deaf)
