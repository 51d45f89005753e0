"""What the programs of netfilter print, or why they do not."""

from __future__ import annotations

from collections.abc import Sequence

from kvmdiag.errors import KvmdiagError
from kvmdiag.system.programs import ProgramError, ProgramMissing, run


class UnreadError(KvmdiagError):
    """Tables that are there could not be read; ``help`` says what would help."""

    def __init__(self, why: str, help_: str) -> None:
        super().__init__(why)
        self.help = help_


class RefusedError(UnreadError):
    """The program is there, and failed."""


def printed(argv: Sequence[str], package: str) -> str:
    """The output of a program, which is part of that package.

    Raises:
        UnreadError: it is not installed, took too long, or printed too much.
        RefusedError: it failed.

    """
    try:
        done = run(argv)
    except ProgramMissing as error:
        raise UnreadError(f"{argv[0]} is not installed", f"install {package}") from error
    except ProgramError as error:
        raise UnreadError(
            str(error), f"look at what {' '.join(argv)} prints, and how long it takes"
        ) from error
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise RefusedError(f"{argv[0]} failed: {why}", f"see what {' '.join(argv)} says")
    return done.stdout
