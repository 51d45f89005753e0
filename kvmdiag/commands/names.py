"""Host names that DNS knows and the snapshot does not."""

from __future__ import annotations

import socket

from msgspec.structs import replace

from kvmdiag.model.question import Question

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}


def look_up(name: str, version: int | None) -> str | None:
    """The first address that this machine's resolver gives for a host name, ``None`` for none.

    Only names with a dot are asked for: a mistyped guest is not a question to the world.
    """
    if "." not in name:
        return None
    try:
        answers = socket.getaddrinfo(name, None, _FAMILY[version], socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return str(answers[0][4][0])


def named(question: Question, name: str) -> Question:
    """The question with its destination called by the name the user typed."""
    end = question.destination
    assumed = (*end.assumed, f"{name} is {end.address}, as this machine's resolver says")
    return replace(question, destination=replace(end, text=name, assumed=assumed))
