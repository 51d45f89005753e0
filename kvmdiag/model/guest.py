"""How far a guest's inside was seen, and what of it belongs to no network stack."""

from __future__ import annotations

from typing import Literal

from kvmdiag.model.fact import Fact

Access = Literal["full", "basic", "addresses", "none"]


class Resolver(Fact, frozen=True, kw_only=True):
    """What ``/etc/resolv.conf`` says (resolv.conf(5)); ``search`` in the order it is tried."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Inside(Fact, frozen=True, kw_only=True):
    """What the agent in a running guest told.

    ``full`` has all that ``ip`` and ``nft`` tell, ``basic`` what ``/proc`` tells, ``addresses``
    the NICs with their addresses alone, ``none`` nothing. ``stack`` is the name of the stack
    that came of it. ``agent`` is the version of the QEMU guest agent.
    """

    domain: str
    access: Access
    stack: str | None = None
    agent: str | None = None
    resolver: Resolver | None = None
