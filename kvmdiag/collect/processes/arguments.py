"""Settings on a daemon's command line, by the names they have in its configuration file.

Source: getopt_long(3); dnsmasq(8) for its short options; dockerd's flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvmdiag.model.daemons import Setting

COMMAND_LINE = "command line"
"""Stands for the path of a file among a daemon's configuration."""

_LONGEST = 512
_MOST = 500
_SECRETS = ("password", "secret", "psk", "token", "private")
# Those whose long options may be followed by their values as words of their own.
_SPACED = frozenset({"dnsmasq", "dockerd", "containerd"})
# dnsmasq's options of one letter that have to do with whom it serves, and how.
_DNSMASQ: Mapping[str, str] = {
    "a": "listen-address",
    "C": "conf-file",
    "E": "expand-hosts",
    "F": "dhcp-range",
    "G": "dhcp-host",
    "h": "no-hosts",
    "H": "addn-hosts",
    "i": "interface",
    "I": "except-interface",
    "l": "dhcp-leasefile",
    "n": "no-poll",
    "O": "dhcp-option",
    "p": "port",
    "r": "resolv-file",
    "R": "no-resolv",
    "s": "domain",
    "S": "server",
    "z": "bind-interfaces",
    "7": "conf-dir",
}
_DNSMASQ_FLAGS = frozenset("EhnRz")
_SHORT: Mapping[str, tuple[Mapping[str, str], frozenset[str]]] = {
    "dnsmasq": (_DNSMASQ, _DNSMASQ_FLAGS)
}
_FLAGS = frozenset(
    {"expand-hosts", "no-hosts", "no-poll", "no-resolv", "bind-interfaces", "bind-dynamic",
     "keep-in-foreground", "no-daemon", "leasefile-ro", "dhcp-authoritative", "domain-needed",
     "bogus-priv", "strict-order", "enable-ra", "no-ping"}
)  # fmt: skip


def read_arguments(daemon: str, words: Sequence[str]) -> Iterator[Setting]:
    """The options among the words behind a daemon's name; others are left out."""
    letters, letter_flags = _SHORT.get(daemon, ({}, frozenset()))
    waiting = list(words[:_MOST])[::-1]
    while waiting:
        word = waiting.pop()
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            spaced = daemon in _SPACED and not equals and key not in _FLAGS
            if key:
                yield setting(key, _next(waiting) if spaced else value)
        elif word[:1] == "-" and word[1:2] in letters:
            value = word[2:]
            if not value and word[1] not in letter_flags:
                value = _next(waiting)
            yield setting(letters[word[1]], value)


def _next(waiting: list[str]) -> str:
    """The value in a word of its own, unless that is the next option."""
    return waiting.pop() if waiting and waiting[-1] and not waiting[-1].startswith("-") else ""


def setting(key: str, value: str) -> Setting:
    """A setting, short enough to keep, and no secret."""
    secret = any(part in key.lower() for part in _SECRETS)
    return Setting(key=key[:_LONGEST], value="***" if secret else value[:_LONGEST])
