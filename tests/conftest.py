"""What every test may use: real network namespaces that are sure to be gone afterwards.

    def test_forwarding(namespaces):
        router, guest = namespaces("router"), namespaces("guest")
        guest.cable("eth0", router, "vnet0")
        guest.ip("addr add 192.0.2.2/24 dev eth0", "link set eth0 up")
        router.sysctl("net.ipv4.ip_forward", 1)
        assert guest.run("ping -c1 -W1 192.0.2.1", check=False).returncode == 1  # link down

A test that asks for ``namespaces`` is a kernel test, with or without the marker. Kernel tests
are skipped, and say so, where the kernel would not let them build anything.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more of the machine than of the program.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

pytest_plugins = ["pytester"]

_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_numbers = itertools.count(1)
_REAPER = pytest.StashKey[subprocess.Popen[bytes]]()


@dataclass(frozen=True)
class Namespace:
    """A network namespace made for one test; its links start as the kernel made them (lo down)."""

    name: str
    _cables: Iterator[int] = field(default_factory=lambda: itertools.count(10), repr=False)
    _started: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    @property
    def path(self) -> str:
        """Where it can be entered."""
        return f"/run/netns/{self.name}"

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - named as in subprocess
        timeout: float = 20,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside, without a shell. With ``check``, failure shows its stderr."""
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        return _run(["ip", "netns", "exec", self.name, *argv], check, input, timeout)

    def start(self, command: str | Sequence[str]) -> subprocess.Popen[str]:
        """Start a program inside that goes on running; it is ended with the namespace."""
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        program = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._started.append(program)
        return program

    def ip(self, *commands: str) -> None:
        """Carry out several ``ip`` commands in one go: ``ns.ip("link set lo up", ...)``."""
        _run(["ip", "-n", self.name, "-batch", "-"], True, "\n".join(commands) + "\n", 20)

    def cable(self, link: str, other: Namespace, other_link: str) -> None:
        """Connect ``link`` here with ``other_link`` there by a veth pair, both ends down.

        The ends never have the same number: of those that have, the kernel sees only once a
        second whether they have carrier (linkwatch_urgent_event in net/core/link_watch.c).
        """
        even, odd = 2 * next(self._cables), 2 * next(other._cables) + 1
        self.ip(
            f"link add {link} index {even} type veth"
            f" peer name {other_link} index {odd} netns {other.name}"
        )

    def sysctl(self, name: str, value: object = None) -> str:
        """Read a sysctl of this namespace; set it first when a value is given."""
        if value is not None:
            self.run(["sysctl", "-qw", f"{name}={value}"])
        return self.run(["sysctl", "-n", name]).stdout.strip()

    def remove(self) -> None:
        """Delete it and end whatever still runs in it; nothing else can be in there."""
        pids = _run(["ip", "netns", "pids", self.name], False, None, 20).stdout.split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for program in self._started:  # one may have been just about to enter
            program.kill()
            program.wait(timeout=10)
        _run(["ip", "netns", "del", self.name], False, None, 20)


def _run(
    argv: Sequence[str], check: bool, text: str | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    stdin = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=timeout, check=False, **stdin
    )
    if check and done.returncode:
        pytest.fail(f"{shlex.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done


@contextlib.contextmanager
def _maker() -> Iterator[Callable[..., Namespace]]:
    with contextlib.ExitStack() as made:

        def make(label: str = "ns") -> Namespace:
            namespace = Namespace(f"kvmdiag-test-{os.getpid()}-{next(_numbers)}-{label}")
            made.callback(namespace.remove)
            _run(["ip", "netns", "add", namespace.name], True, None, 20)
            return namespace

        yield make


@pytest.fixture
def namespaces() -> Iterator[Callable[..., Namespace]]:
    """A maker of namespaces: ``namespaces("node1")``. All are removed when the test ends.

    Names are unique for the process, so tests can run side by side.
    """
    with _maker() as make:
        yield make


@pytest.fixture(scope="module")
def shared_namespaces() -> Iterator[Callable[..., Namespace]]:
    """The same for all tests of a file, which leave them as they are."""
    with _maker() as make:
        yield make


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Poll until true: ``eventually(lambda: link_is_up(), "eth0 never came up")``."""

    def poll(true: Callable[[], object], otherwise: str, *, seconds: float = 5) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                pytest.fail(f"{otherwise} (waited {seconds:g} s)")
            time.sleep(0.02)

    return poll


def _may_build_namespaces() -> bool:
    """Whether this process holds the capabilities that namespaces need (capabilities(7))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return bool(held >> _CAP_NET_ADMIN & 1 and held >> _CAP_SYS_ADMIN & 1)
    return False


def pytest_configure(config: pytest.Config) -> None:
    """Let a polite kill (timeout(1), a cancelled job) end like Ctrl-C, with all clean-up.

    What is left even so, after a kill that is not polite, another process removes. Ctrl-C
    itself is ignored by what a shell starts in the background, and so by what tests start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if _may_build_namespaces():
        config.stash[_REAPER] = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("reaper.py")), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # what is sent to all of a terminal does not reach it
        )
        config.stash[_REAPER].stdout.readline()  # it has seen what is not ours


def pytest_unconfigure(config: pytest.Config) -> None:
    """Have what is left removed, before anybody looks for it."""
    if _REAPER in config.stash:
        config.stash[_REAPER].communicate(timeout=60)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses real namespaces, before ``-m`` selects, and skip it without the rights."""
    allowed = _may_build_namespaces()
    for item in items:
        if {"namespaces", "shared_namespaces"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.kernel)
        if not allowed and item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason="needs root to build network namespaces"))
