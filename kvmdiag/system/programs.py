"""Running programs: never through a shell, bounded in time and in output.

ProgramError
├── ProgramMissing    it is not installed
├── ProgramTimeout    it took too long and was killed
└── ProgramOverflow   it printed too much and was killed
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from kvmdiag.errors import KvmdiagError

_CHUNK = 1 << 16
_MIB = 1 << 20

SECONDS = 10.0
"""What a program is given that is not expected to take long."""


class ProgramError(KvmdiagError):
    """A program could not be run to its end."""


class ProgramMissing(ProgramError):  # noqa: N818 - the other layers know it by this name
    """The program is not installed, or may not be run."""


class ProgramTimeout(ProgramError):  # noqa: N818
    """The program took longer than it was given, and was killed."""


class ProgramOverflow(ProgramError):  # noqa: N818
    """The program printed more than was allowed, and was killed."""


@dataclass(frozen=True)
class Completed:
    """How a program ended; what it printed, with undecodable bytes replaced."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    timeout: float | None = None,
    limit: int = 64 * _MIB,
    input: str | None = None,  # noqa: A002 - named as in subprocess
) -> Completed:
    """Run a program to its end, in the network namespace of the calling thread.

    Args:
        argv: the program and its arguments; no shell sees them.
        timeout: seconds until it is killed, with everything it started; ``SECONDS`` by default.
        limit: bytes of standard output and error together.
        input: text for its standard input; nothing when ``None``.

    Raises:
        ProgramMissing: it is not there or may not be run.
        ProgramTimeout: it did not end in time.
        ProgramOverflow: it printed more than ``limit`` bytes.

    """
    seconds = SECONDS if timeout is None else timeout
    try:
        # A session of its own makes it the leader of a process group that can be killed as one.
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramMissing(f"cannot run {argv[0]}: {error.strerror}") from None
    try:
        out, err = _talk(process, (input or "").encode(), time.monotonic() + seconds, limit)
    except TimeoutError:
        raise ProgramTimeout(f"{argv[0]} did not end within {seconds:g} s") from None
    except OverflowError:
        raise ProgramOverflow(f"{argv[0]} printed more than {limit} bytes") from None
    finally:
        _end(process)
    return Completed(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def _talk(
    process: subprocess.Popen[bytes], text: bytes, deadline: float, limit: int
) -> tuple[bytearray, bytearray]:
    """Feed and read all pipes until the program has ended; both outputs."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    assert process.stderr is not None  # noqa: S101
    outputs: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    rest = memoryview(text)
    with selectors.DefaultSelector() as selector:
        for stream in outputs:
            selector.register(stream, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            for key, _ in selector.select(_left(deadline)):
                if key.fileobj is process.stdin:
                    rest = rest[_write(key.fd, rest) :]
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                outputs[key.fileobj] += data  # type: ignore[index]
            if sum(map(len, outputs.values())) > limit:
                raise OverflowError
    try:
        process.wait(_left(deadline))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return outputs[process.stdout], outputs[process.stderr]


def _write(descriptor: int, data: memoryview) -> int:
    """How many bytes are dealt with: all of them when the program does not want any."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes; kill the program and what it started unless it has ended by itself.

    Until it is waited for, its process id and with it its group's cannot be another's.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
