"""Sending frames of one's own making by a link, from inside its namespace."""

from __future__ import annotations

import socket
from typing import Protocol, Self

from kvmdiag.errors import NotReadableError
from kvmdiag.model.link import Link
from kvmdiag.model.stack import Stack
from kvmdiag.system.namespaces import entered


class Port(Protocol):
    """Something that frames can be put on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def put(self, frame: bytes) -> None:
        """Send a frame."""


class FramePort:
    """Sends as programs do that have no address yet, or ask for a neighbour.

    Raises:
        NotReadableError: it is not allowed, or the link is gone.

    """

    def __init__(self, stack: Stack, link: Link) -> None:
        with entered(stack.netns or ""):
            try:
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self._socket.bind((link.name, 0))
            except OSError as error:
                raise NotReadableError(
                    f"cannot send from {stack.name}/{link.name}: {error.strerror}"
                ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def put(self, frame: bytes) -> None:
        """Send it.

        Raises:
            NotReadableError: the link takes nothing.

        """
        try:
            self._socket.send(frame)
        except OSError as error:
            raise NotReadableError(f"cannot send: {error.strerror}") from None
