"""All evidence of one stack: rule by rule verdicts and counters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kvmdiag.errors import KvmdiagError
from kvmdiag.model.netfilter import Family
from kvmdiag.model.stack import Stack
from kvmdiag.probes.evidence import counters, neighbours
from kvmdiag.probes.evidence.facts import CounterChange, RuleVerdict, Source, Unavailable, Waiting
from kvmdiag.probes.evidence.legacy_trace import LegacyTrace
from kvmdiag.probes.evidence.nft_trace import NftTrace
from kvmdiag.probes.evidence.rules import RuleBook
from kvmdiag.probes.packet import Probe
from kvmdiag.system.namespaces import entered

_NET = Path("/proc/thread-self/net")


class StackWatch:
    """Watches one stack from its making to its close.

    What is not to be had is in ``unavailable``; nothing is raised but NotReadableError for a
    namespace that cannot be entered.
    """

    def __init__(self, stack: Stack, probes: Sequence[Probe]) -> None:
        self.unavailable: list[Unavailable] = []
        self.waiting: tuple[Waiting, ...] = ()
        self._stack = stack
        self._version = probes[0].version
        self._book = RuleBook(stack)
        self._names = {link.index: link.name for link in stack.links or ()}
        self._counted = self._countable()
        self._after: counters.Reading | None = None
        self._legacy: LegacyTrace | None = None
        self._nft: NftTrace | None = None
        with entered(stack.netns or ""):
            self._has_legacy = self._legacy_is_there()
            self._before = self._read()
            self._legacy = self._trace_legacy(probes)
            try:
                self._nft = self._trace_nft(probes)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Stop watching."""
        for trace in (self._nft, self._legacy):  # the log goes where it went when all is quiet
            if trace is not None:
                trace.close()

    def _legacy_is_there(self) -> bool:
        """Asked of the kernel, for the snapshot may be older than the tables."""
        listing = "ip_tables_names" if self._version == 4 else "ip6_tables_names"
        try:
            return bool((_NET / listing).read_text().split())
        except FileNotFoundError:
            return False
        except OSError:
            return True  # not allowed to look; nothing can be traced then

    def _countable(self) -> bool:
        if self._stack.tables is None:
            self._miss("counters", "the rules could not be read")
            return False
        if not counters.countable(self._stack.tables):
            why = f"there are more than {counters.MOST_RULES} rules; those of rules are not read"
            self._miss("counters", why)
            return False
        return True

    def _read(self) -> counters.Reading | None:
        try:
            return counters.read(self._stack.tables if self._counted else None)
        except (OSError, KvmdiagError) as error:
            self._miss("counters", _words(error))
            return None

    def _trace_legacy(self, probes: Sequence[Probe]) -> LegacyTrace | None:
        if not self._has_legacy:
            return None
        try:
            return LegacyTrace(probes)
        except OSError as error:
            self._miss("legacy rule verdicts", _words(error))
            return None

    def _trace_nft(self, probes: Sequence[Probe]) -> NftTrace | None:
        """Also what makes legacy tables trace; not without an ear for them.

        The trace bit would have them write to the kernel's log, or to somebody else's.
        """
        if self._stack.tables == ():
            return None
        if self._has_legacy and self._legacy is None:
            why = "the trace of the legacy tables beside them would go to the kernel's log"
            self._miss("rule verdicts", why)
            return None
        try:
            return NftTrace(probes)
        except OSError as error:
            self._miss("rule verdicts", _words(error))
            return None

    def finish(self) -> None:
        """Take in what has come, read the counters again, and see whose answer is awaited."""
        for trace in (self._nft, self._legacy):
            if trace is not None:
                trace.drain()
                if trace.lost:
                    self._miss("rule verdicts", "the kernel told more than could be taken in")
        with entered(self._stack.netns or ""):
            self._after = self._read() if self._before is not None else None
            self.waiting = self._unanswered()

    def _unanswered(self) -> tuple[Waiting, ...]:
        try:
            return tuple(
                Waiting(stack=self._stack.name, link=self._names.get(index), address=address)
                for index, address in neighbours.waiting(self._version)
            )
        except OSError as error:
            self._miss("neighbours", _words(error))
            return ()

    def verdicts(self, number: int) -> Iterator[RuleVerdict]:
        """Of one probe; in the order they were given, for each backend."""
        for event in self._nft.events() if self._nft is not None else ():
            if event.probe != number:
                continue
            yield RuleVerdict(
                direction=event.direction,
                rule=self._book.by_handle(event.family, event.table, event.chain, event.handle),
                verdict=event.verdict,
                in_link=self._names.get(event.in_index),
                out_link=self._names.get(event.out_index),
            )
        family: Family = "ip" if self._version == 4 else "ip6"
        for one in self._legacy.events() if self._legacy is not None else ():
            if one.probe != number:
                continue
            index = None if one.number is None else one.number - 1
            rule = self._book.by_number(family, one.table, one.chain, index)
            yield RuleVerdict(
                direction=one.direction,
                rule=rule,
                verdict=self._book.verdict(rule),
                in_link=self._names.get(one.in_index),
                out_link=self._names.get(one.out_index),
            )

    def changes(self) -> Iterator[CounterChange]:
        """Counters that grew."""
        if self._before is None or self._after is None:
            return
        for key, by in counters.grown(self._before, self._after):
            if isinstance(key, str):
                yield CounterChange(stack=self._stack.name, what=key, by=by)
                continue
            family, backend, table, chain, number = key
            if backend is None:
                rule = self._book.by_handle(family, table, chain, number)
            else:
                rule = self._book.by_number(family, table, chain, number)
            yield CounterChange(stack=self._stack.name, what="rule", rule=rule, by=by)

    def _miss(self, source: Source, why: str) -> None:
        missed = Unavailable(source=source, why=why, stack=self._stack.name)
        if missed not in self.unavailable:
            self.unavailable.append(missed)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
