"""Adding routes."""

from __future__ import annotations

import msgspec

from kvmdiag.actions.keep import keep
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import NextHop, Route

_DEFAULTS = ("0.0.0.0/0", "::/0")


class AddRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Add a route of the main table by ``gateway`` on ``link``. ``destination`` is a CIDR."""

    stack: str
    destination: str
    gateway: str
    link: str

    @property
    def disruptive(self) -> bool:
        """False: it is added only where there was no way at all."""
        return False

    @property
    def _words(self) -> tuple[str, ...]:
        shown = "default" if self.destination in _DEFAULTS else self.destination
        return (shown, "via", self.gateway, "dev", self.link)

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip route add ...``."""
        del snapshot  # the command does not depend on what was there
        return (*self._ip, "route", "add", *self._words)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip route del ...``."""
        del snapshot
        return (*self._ip, "route", "del", *self._words)

    def persist(self, snapshot: Snapshot) -> str:
        """The lines for netplan and for systemd-networkd."""
        to = self._words[0]
        netplan = f"netplan: 'routes: [{{to: {to}, via: {self.gateway}}}]' under {self.link}"
        networkd = f"systemd-networkd: '[Route] Gateway={self.gateway}'"
        return keep(snapshot.stack(self.stack), f"{netplan}; or {networkd} in its .network file")

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The routes with the new one; a stack whose routes were not read stays unread."""
        stack = snapshot.stack(self.stack)
        if stack.routes is None:
            return snapshot
        metric = 1024 if ":" in self.destination else 0  # IP6_RT_PRIO_USER
        route = Route(
            destination=self.destination,
            metric=metric,
            next_hops=(NextHop(link=self.link, gateway=self.gateway),),
        )
        changed = msgspec.structs.replace(stack, routes=(route, *stack.routes))
        return snapshot.with_stack(changed)

    @property
    def _ip(self) -> tuple[str, ...]:
        return ("ip", "-6") if ":" in self.destination else ("ip",)
