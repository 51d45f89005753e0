"""Finds what must be replaced in rules, command lines, paths and sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from kvmdiag.model.redact.addresses import Addresses, IPAddress
from kvmdiag.model.redact.macs import Macs
from kvmdiag.model.redact.names import Names
from kvmdiag.model.redact.vocabulary import PATH_PARTS, PROSE, WORDS

_TOKEN = re.compile(
    r"""
      (?P<quoted>"(?:\\.|[^"\\])*"|(?<![\w'])'[^'\n]*'(?![\w']))
    | (?P<mac>(?<![\w:])[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}(?![\w:]))
    | (?P<ip>(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d))
    | (?P<mask>(?<=/)\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d))
    | (?P<ip6>(?<![\w:.])(?=[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:)[0-9A-Fa-f:.]+(?!\w))
    | (?P<word>[^\s"'{}()\[\],;=<>|&!]+)
    """,
    re.VERBOSE,
)
_OPTION = re.compile(r"-{1,2}[A-Za-z][A-Za-z0-9-]*")
_NUMBER = re.compile(r"[\d:,.\-/+%]+|0x[0-9a-fA-F]{1,6}(?:/0x[0-9a-fA-F]+)?|0x[fF]{8}")
_ROUND_HEX = re.compile(r"0x[0-9a-fA-F]{1,4}0000(?:/0x[0-9a-fA-F]+)?")
_UNITS = re.compile(r"\d+(?:/(?:second|sec|minute|min|hour|day)|[kmg]?b(?:ytes)?|[smhd]|ms|us)")
_LETTERS = re.compile(r"[^\W\d_]+")
_PARTS = re.compile(r"([:,/|.]|\.\.)")
_ENDING = re.compile(r"(\.(?:xml|conf|pid|leases|status|network|netdev|link|yaml|json|sock))$")
_SYSCTL = re.compile(r"(net\.(?:ipv[46]\.(?:conf|neigh)|mpls\.conf)\.)([^.]+)(\..*)?")
_EVERY_LINK = ("all", "default", "lo")


class Texts:
    """Replaces addresses, names and unknown words in the texts of one snapshot."""

    def __init__(self, addresses: Addresses, macs: Macs, names: Names) -> None:
        self._addresses = addresses
        self._macs = macs
        self._names = names
        several = "|".join(map(re.escape, names.of_several_words))
        self._several = re.compile(rf"(?<!\w)(?:{several})(?!\w)") if several else None

    def address(self, text: str) -> str:
        """One address; what is none is replaced as a word of a rule is."""
        bare, percent, zone = text.partition("%")
        parsed = _address(bare)
        if parsed is None:
            return self.rule(text)
        return f"{self._addresses(parsed)}{percent}{self.name(zone) if zone else ''}"

    def network(self, text: str) -> str:
        """``address/length``, ``first-last`` or one address."""
        bare, slash, length = text.partition("/")
        parsed = _address(bare)
        if parsed is None or not slash:
            first, dash, last = text.partition("-")
            if dash and _address(first) and _address(last):
                return f"{self.address(first)}-{self.address(last)}"
            return self.address(text)
        try:
            number = ip_network(f"0.0.0.0/{length}" if parsed.version == 4 else text, strict=False)
        except ValueError:
            return self.address(bare) + slash + length
        return f"{self._addresses.network(parsed, number.prefixlen)}{slash}{length}"

    def mac(self, text: str) -> str:
        """One MAC address, with a mask perhaps."""
        mac, slash, mask = text.partition("/")
        return self._macs(mac) + slash + mask if _is_mac(mac) else self.rule(text)

    def name(self, text: str) -> str:
        """One name."""
        return self._names.get(text) or (text and self._names.word(text))

    def path(self, text: str) -> str:
        """A path; what every system has in common stays."""
        return "/".join(self._path_part(part) for part in text.split("/"))

    def sysctl(self, name: str) -> str:
        """A dotted sysctl name; a slash in it is a dot of the link's name."""
        found = _SYSCTL.fullmatch(name)
        if found is None:
            return name
        begin, link, end = found.groups()
        if link not in _EVERY_LINK:
            link = self.name(link.replace("/", ".")).replace(".", "/")
        return f"{begin}{link}{end or ''}"

    def rule(self, text: str) -> str:
        """A rule, an element of a set, a command line."""
        return self._replaced(text, self._rule_word)

    def label(self, text: str) -> str:
        """What somebody called something; unlike in a rule, there are no options in it."""
        return self._replaced(text, self._plain_word)

    def prose(self, text: str) -> str:
        """A sentence: words of letters stay, unless they are names of this snapshot."""
        return self._replaced(text, self._prose_word)

    def _replaced(self, text: str, word: Callable[[str], str]) -> str:
        whole = self._names.get(text)
        if whole is not None:
            return whole
        made = []
        position = 0
        for found in self._several.finditer(text) if self._several is not None else ():
            made.append(self._tokens(text[position : found.start()], word))
            made.append(self._names.get(found.group()) or "")
            position = found.end()
        return "".join(made) + self._tokens(text[position:], word)

    def _tokens(self, text: str, word: Callable[[str], str]) -> str:
        made = []
        position = 0
        while (found := _TOKEN.search(text, position)) is not None:
            made.append(text[position : found.start()])
            position = found.end()
            kind, token = found.lastgroup, found.group()
            if kind == "quoted":
                inner = re.sub(r"\\(.)", r"\1", token[1:-1])
                made.append(token[0] + self._replaced(inner, self._plain_word) + token[0])
            elif kind == "mac":
                made.append(self._macs(token))
            elif kind == "mask":
                made.append(token)
            elif kind in ("ip", "ip6"):
                new, position = self._address_at(text, found, word)
                made.append(new)
            else:
                made.append(word(token))
        return "".join(made) + text[position:]

    def _address_at(
        self, text: str, found: re.Match[str], word: Callable[[str], str]
    ) -> tuple[str, int]:
        """An address with the prefix length that follows it, and where the text goes on."""
        token = found.group()
        bare = token if _address(token) else token.rstrip(":.")
        if _address(bare) is None:
            return word(token), found.end()
        end = found.start() + len(bare)
        length = re.compile(r"/\d{1,3}(?![\d.])").match(text, end)
        if length is None:
            return self.address(bare), end
        return self.network(bare + length.group()), length.end()

    def _rule_word(self, token: str) -> str:
        return token if _OPTION.fullmatch(token) else self._plain_word(token)

    def _plain_word(self, token: str) -> str:
        """A word as rules have them: known, a number, or put together from such."""
        known = self._known(token)
        if known is not None:
            return known
        parts = _PARTS.split(token)
        if len(parts) == 1:
            return self._names.word(token)
        if all(part in WORDS or _NUMBER.fullmatch(part) or self._names.get(part) for part in parts):
            return "".join(self._known(part) or part for part in parts)
        return "".join(part if _PARTS.fullmatch(part) else self._single(part) for part in parts)

    def _single(self, part: str) -> str:
        return part and (self._known(part) or self._names.word(part))

    def _known(self, token: str) -> str | None:
        name = self._names.get(token)
        if name is not None:
            return name
        if token.startswith("net."):
            return self.sysctl(token)
        if token in WORDS or _NUMBER.fullmatch(token) or _ROUND_HEX.fullmatch(token):
            return token
        if _UNITS.fullmatch(token):
            return token
        if token[-1:] in ("+", "*"):
            pattern = self._names.get(token[:-1] + "*")
            return None if pattern is None else pattern[:-1] + token[-1]
        if token[:1] in ("@", "$"):
            name = self._names.get(token[1:])
            return None if name is None else token[0] + name
        return None

    def _prose_word(self, token: str) -> str:
        bare = token.rstrip(".:")
        known = self._known(bare)
        if known is None and (bare in PROSE or not bare or _LETTERS.fullmatch(bare)):
            known = bare
        if known is None and "/" in bare:
            known = self.path(bare)
        if known is None and _OPTION.fullmatch(bare):
            known = bare
        return (known or self._plain_word(bare)) + token[len(bare) :]

    def _path_part(self, part: str) -> str:
        known = self._names.get(part)
        if known is not None:
            return known
        if part in PATH_PARTS or part in PROSE or part.isdigit() or part in ("", ".", ".."):
            return part
        ending = _ENDING.search(part)
        if ending is not None:
            return self._path_part(part[: ending.start()]) + ending.group()
        return self._names.word(part)


def _address(text: str) -> IPAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_mac(text: str) -> bool:
    return re.fullmatch(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}", text) is not None
