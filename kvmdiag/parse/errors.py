"""What goes wrong when the output of a program is not in its own format."""

from __future__ import annotations

from kvmdiag.errors import InputError


class ParseError(InputError):
    """The text as a whole is not what its program prints; nothing of it can be trusted."""
