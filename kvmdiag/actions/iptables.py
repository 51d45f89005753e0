"""What all actions on chains of iptables have in common: where, and by which program."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.actions.chain import Place
from kvmdiag.model.netfilter import Backend


class InChain(msgspec.Struct, frozen=True, kw_only=True):
    """Something is done to ``chain`` of a table of iptables or ip6tables."""

    stack: str
    chain: str
    table: str = "filter"
    family: Literal["ip", "ip6"] = "ip"
    backend: Backend = "iptables-nft"

    @property
    def place(self) -> Place:
        """The chain."""
        return Place(self.stack, self.family, self.table, self.backend, self.chain)

    @property
    def name(self) -> str:
        """The name of the program."""
        name = "ip6tables" if self.family == "ip6" else "iptables"
        return f"{name}-legacy" if self.backend == "iptables-legacy" else name

    @property
    def program(self) -> tuple[str, ...]:
        """The program, with the table that it is to work on."""
        return (self.name,) if self.table == "filter" else (self.name, "-t", self.table)
