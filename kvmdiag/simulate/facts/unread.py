"""How the walk says that a fact it depends on was not read or is not understood."""

from __future__ import annotations


class NotRead(Exception):  # noqa: N818  it ends a walk as unknown; it is not an error
    """The walk needs ``fact`` of ``stack``, and the snapshot does not have it."""

    def __init__(self, stack: str, fact: str) -> None:
        super().__init__(f"{fact} of {stack} could not be read")
        self.stack = stack
        self.fact = fact


class NotUnderstood(Exception):  # noqa: N818  as above
    """What happens depends on something that kvmdiag does not model; ``what`` names it."""

    def __init__(self, stack: str, what: str) -> None:
        super().__init__(what)
        self.stack = stack
        self.what = what
