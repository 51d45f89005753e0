"""What all changes to a link by one line of ip(8) or bridge(8) have in common."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.actions.link_effects import link_named
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack


class LinkChange(msgspec.Struct, frozen=True, kw_only=True):
    """Something is set of ``link``; it is undone by setting what was."""

    stack: str
    link: str

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK ...``, or ``bridge link set dev LINK ...``."""
        del snapshot  # the command does not depend on what was there
        return self._line(self._words)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The same line with what the link was."""
        link = link_named(snapshot.stack(self.stack), self.link)
        return self._line(self._words if link is None else self._before(link))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The link as it is then, with all that the kernel changes along with it."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        return snapshot if link is None else self._applied(snapshot, stack, link)

    def _line(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return (self._program, "link", "set", "dev", self.link, *words)

    @property
    def _program(self) -> Literal["ip", "bridge"]:
        return "ip"

    @property
    def _words(self) -> tuple[str, ...]:
        """What is set."""
        raise NotImplementedError

    def _before(self, link: Link) -> tuple[str, ...]:
        """What the link is, in such words."""
        raise NotImplementedError

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """The snapshot with ``link`` of ``stack`` changed."""
        raise NotImplementedError
