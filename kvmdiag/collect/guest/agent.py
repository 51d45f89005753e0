"""The QEMU guest agent: a few read-only commands to a guest that may be hostile.

What a guest answers is believed in nothing: not that it answers at all, nor in time, nor
shortly, nor sensibly. Programs are started by their full path with fixed arguments; no shell
sees anything.

Source: qga/qapi-schema.json of QEMU.

AgentError
├── AgentSilent    no answer in time, or no agent at all
├── AgentRefuses   the agent says no: an unknown, forbidden or failed command
└── AgentBabbles   the answer is not what the protocol says, or too long
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from kvmdiag.errors import KvmdiagError

Send = Callable[[str, float], str]
"""Hands one JSON command to the agent and waits so many seconds for its JSON answer.

Raises AgentSilent and AgentRefuses.
"""

LIMIT = 24 << 20
"""Bytes that one guest may send in all."""

_LONGEST = 5.0
_FIRST_PAUSE = 0.005
_LAST_PAUSE = 0.1
_BLOCK = 1 << 16
_T = TypeVar("_T")


class AgentError(KvmdiagError):
    """The agent did not do what it was asked for."""


class AgentSilent(AgentError):  # noqa: N818 - they say what the agent does
    """No answer in time, or no agent at all."""


class AgentRefuses(AgentError):  # noqa: N818
    """The agent knows no such command, or the command failed."""


class AgentBabbles(AgentError):  # noqa: N818
    """The answer is not what the protocol says, or too long."""


@dataclass(frozen=True)
class Ran:
    """How a program inside a guest ended; what it printed, with undecodable bytes replaced."""

    code: int
    out: str
    complaint: str = ""


class _Command(msgspec.Struct):
    name: str
    enabled: bool = True


class _Info(msgspec.Struct):
    supported_commands: list[_Command]
    version: str = ""


class _Started(msgspec.Struct):
    pid: int


class _Status(msgspec.Struct, rename="kebab"):
    exited: bool
    exitcode: int | None = None
    out_data: str = ""
    err_data: str = ""
    out_truncated: bool = False


class _Block(msgspec.Struct, rename="kebab"):
    buf_b64: str
    eof: bool


class AgentAddress(msgspec.Struct, rename="kebab"):
    """An address as the agent tells it."""

    ip_address: str
    ip_address_type: str
    prefix: int


class AgentNic(msgspec.Struct, rename="kebab"):
    """A NIC as the agent tells it."""

    name: str
    hardware_address: str | None = None
    ip_addresses: list[AgentAddress] = []


@dataclass
class Agent:
    """The agent in one guest, until ``deadline`` (of ``time.monotonic``)."""

    send: Send
    deadline: float
    _received: int = field(default=0, init=False)

    def info(self) -> tuple[str, frozenset[str]]:
        """Its version and the commands it carries out."""
        told = self._ask(_Info, "guest-info")
        return told.version, frozenset(c.name for c in told.supported_commands if c.enabled)

    def nics(self) -> list[AgentNic]:
        """The NICs with their addresses."""
        return self._ask(list[AgentNic], "guest-network-get-interfaces")

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """Start a program; its number, for :meth:`result`.

        Raises:
            AgentRefuses: there is no such program, or programs may not be run.

        """
        given = {"path": path, "arg": list(arguments), "env": ["LC_ALL=C"], "capture-output": True}
        return self._ask(_Started, "guest-exec", given).pid

    def result(self, pid: int) -> Ran:
        """Wait for the end of a program."""
        pause = _FIRST_PAUSE
        while True:
            status = self._ask(_Status, "guest-exec-status", {"pid": pid})
            if status.exited:
                break
            time.sleep(min(pause, self._left()))
            pause = min(2 * pause, _LAST_PAUSE)
        if status.out_truncated:
            raise AgentBabbles("it printed more than the agent passes on")
        code = -1 if status.exitcode is None else status.exitcode
        return Ran(code, _decoded(status.out_data), _decoded(status.err_data))

    def read(self, path: str) -> str:
        """The content of a file.

        Raises:
            AgentRefuses: there is no such file, or it may not be read.

        """
        handle = self._ask(int, "guest-file-open", {"path": path, "mode": "r"})
        parts = []
        try:
            while True:
                given = {"handle": handle, "count": _BLOCK}
                block = self._ask(_Block, "guest-file-read", given)
                parts.append(_decoded(block.buf_b64))
                if block.eof or not block.buf_b64:
                    return "".join(parts)
        finally:
            self._ask(dict[str, Any], "guest-file-close", {"handle": handle})

    def _ask(self, kind: type[_T], command: str, arguments: object = None) -> _T:
        request: dict[str, object] = {"execute": command}
        if arguments is not None:
            request["arguments"] = arguments
        answer = self.send(json.dumps(request), min(self._left(), _LONGEST))
        self._received += len(answer)
        if self._received > LIMIT:
            raise AgentBabbles(f"it sent more than {LIMIT >> 20} MiB")
        try:
            returned = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])["return"]
            return msgspec.json.decode(returned, type=kind)
        except (msgspec.MsgspecError, KeyError, RecursionError, UnicodeError):
            raise AgentBabbles(f"its answer to {command} is not what the protocol says") from None

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise AgentSilent("it took too long")
        return left


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        raise AgentBabbles("what it passes on is not in base64") from None
