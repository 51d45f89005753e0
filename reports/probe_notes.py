"""What a report tells of a live probe besides the hops: plain data, made by the command."""

from __future__ import annotations

import msgspec

from kvmdiag.reports.kernel_notes import KernelNotes


class ProbeNotes(msgspec.Struct, frozen=True, kw_only=True):
    """How the probe ended.

    ``answer`` is what the source's own socket got, ``None`` when it got nothing within
    ``waited`` seconds. ``disagreement`` says where the model was wrong. ``unwatched`` are
    stacks in which nobody looked, each with the reason. ``remarks`` say how it was sent and
    what was assumed for that; ``insiders`` are guests whose own word it is what was seen inside
    them; ``doubt`` why an answer may not be the destination's own.
    ``kernel`` is the kernel's own account, ``None`` when it was not asked.
    """

    reached: bool
    answer: str | None
    waited: float
    disagreement: str | None = None
    unwatched: tuple[tuple[str, str], ...] = ()
    truncated: bool = False
    remarks: tuple[str, ...] = ()
    insiders: tuple[str, ...] = ()
    doubt: str | None = None
    kernel: KernelNotes | None = None
