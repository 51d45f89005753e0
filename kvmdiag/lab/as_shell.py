"""What a fault changes in a guest that is a virtual machine, as shell for its inside."""

from __future__ import annotations

from typing import assert_never

from kvmdiag.lab import settings
from kvmdiag.lab.real_spec import IP
from kvmdiag.lab.spec import Ip, Nft, Rules, Shell, Step, Sysctls


def as_shell(step: Step | Shell) -> str:
    """The lines that do there what the builder does in a namespace."""
    match step:
        case Ip(_, lines):
            return _fed(f"{IP} -batch -", lines)
        case Sysctls(_, values):
            return "\n".join(f"echo {v} > {settings.file_of(key)}" for key, v in values.items())
        case Rules(_, text):
            return _fed("iptables-nft-restore --noflush", text)
        case Nft(_, text):
            return _fed("nft -f -", text)
        case Shell(_, text):
            return text
        case _:
            assert_never(step)


def _fed(command: str, text: str) -> str:
    return f"{command} <<'END'\n{text}END"
