"""Stand-ins for names: the same for the same name, and as good as it for every pattern.

``vnet3`` becomes ``vnetN07``: what says which program made a link or chain stays. A rule may ask
for ``acme-*``; names that begin so get stand-ins that begin with the stand-in of ``acme-``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kvmdiag.model.redact.vocabulary import CHAIN_CLASSES, LINK_CLASSES, NAMES

# No class of links or chains goes on with it, so no pattern of theirs matches by accident.
_MARK = "N"

_EVERYWHERE = ("lo",)

# What sets words of a text apart.
_SPLITS = re.compile(r"""[\s"'{}()\[\],;=<>|&!]""")


class Names:
    """Stand-ins for the names of one snapshot, which are all known beforehand.

    Args:
        links: names of links and patterns for them, ``vnet*``.
        chains: names of chains.
        others: names of guests, namespaces, networks, tables, sets ...

    """

    def __init__(self, links: Iterable[str], chains: Iterable[str], others: Iterable[str]) -> None:
        links, chains, others = list(links), list(chains), list(others)
        self._originals = {name.rstrip("*") for name in (*links, *chains, *others)}
        # Of one width, so that no number begins with another one.
        self._width = max(2, len(str(2 * len(self._originals))))
        self._patterns = sorted({name[:-1] for name in links if name.endswith("*")}, key=len)
        self._begin = next(
            begin
            for begin in ("link", "port", "nic", "Link")
            if not any(begin.startswith(p) for p in self._patterns if p and _is_public(p))
        )
        self._made: dict[tuple[str, str], str] = {}
        self._words: dict[str, str] = {}
        self._number = 0
        self._known: dict[str, str] = {}
        for name in links:
            if name not in self._known:
                self._known[name] = self._link(name)
        for name in chains:
            if name not in self._known:
                self._known[name] = self._chain(name)
        for name in others:
            if name not in self._known:
                self._known[name] = name if name in NAMES else self._next("name", name)

    def get(self, name: str) -> str | None:
        """The stand-in of a name; ``None`` for what is no name of this snapshot."""
        return self._known.get(name)

    @property
    def of_several_words(self) -> list[str]:
        """Names that a text must be searched for as a whole, the longest first."""
        return sorted((name for name in self._known if _SPLITS.search(name)), key=len, reverse=True)

    def word(self, text: str) -> str:
        """The stand-in of anything else."""
        found = self._known.get(text) or self._words.get(text)
        if found is None:
            found = self._words[text] = self._next("word", text)
        return found

    def _link(self, name: str) -> str:
        if name.endswith("*"):
            return self._by_prefixes(name[:-1]) + "*"
        asked_for = any(name.startswith(p) and not _is_public(p) for p in self._patterns)
        if name in (*_EVERYWHERE, "") or (name in NAMES and not asked_for):
            return name
        return self._by_prefixes(name)

    def _by_prefixes(self, name: str) -> str:
        """The stand-in, put together from those of all that patterns ask for."""
        public = [known for known in LINK_CLASSES if _is_class(name, known)]
        public += [p for p in self._patterns if name.startswith(p) and _is_public(p)]
        kept = max((min(len(name), len(known)) for known in public), default=0)
        cuts = {len(pattern) for pattern in self._patterns if name.startswith(pattern)}
        made = name[:kept] if kept or not name else self._begin
        start = kept
        for end in sorted({*(cut for cut in cuts if cut > kept), len(name)}):
            if end > start:
                made = self._next(made, name[:end])
                start = end
        return made

    def _chain(self, name: str) -> str:
        if name in NAMES:
            return name
        begin = max((c for c in CHAIN_CLASSES if name.startswith(c)), key=len, default="")
        rest = name[len(begin) :]
        if not begin:
            return self._next("chain", name)
        if rest in self._known:
            return begin + self._known[rest]
        return self._next(begin, name)

    def _next(self, begin: str, original: str) -> str:
        """A name nobody has yet that begins so; the same for the same original."""
        found = self._made.get((begin, original))
        while found is None or found in self._originals:
            self._number += 1
            found = f"{begin}{_MARK}{self._number:0{self._width}}"
        self._made[begin, original] = found
        return found


def _is_class(name: str, known: str) -> bool:
    """Whether a name is of a class, or a pattern asks for several classes at once (``v*``)."""
    return name.startswith(known) or known.startswith(name)


def _is_public(pattern: str) -> bool:
    """Whether a pattern asks for whole classes, and so stays as it is."""
    return any(known.startswith(pattern) for known in (*LINK_CLASSES, *_EVERYWHERE))
