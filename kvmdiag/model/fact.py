"""What every fact of a snapshot is built on."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that never changes; in a file it has the fields that are known, and no others.

    A fact that is not understood could be the one that decides, so a file that has one is
    refused rather than half read.
    """
