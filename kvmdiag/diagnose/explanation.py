"""What a check's docstring says, taken apart by its headings."""

from __future__ import annotations

import inspect

import msgspec

HEADINGS = ("Symptom", "Cause", "Harmless when", "Evidence", "Fix", "Sources")


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a check's docstring; ``summary`` is its first line, without the full stop."""

    summary: str
    symptom: str
    cause: str
    harmless_when: str
    evidence: str
    fix: str
    sources: str

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        """Heading and text, in the order in which they are written."""
        texts = (
            self.symptom,
            self.cause,
            self.harmless_when,
            self.evidence,
            self.fix,
            self.sources,
        )
        return tuple(zip(HEADINGS, texts, strict=True))


def parse_explanation(docstring: str) -> Explanation:
    """The explanation in ``docstring``.

    Sample::

        A guest's tap is administratively down.

        Symptom: one guest is dead.
        Cause: somebody set its tap down,
            or something did.
        Harmless when: ...
        Evidence: ...
        Fix: ...
        Sources: ...

    A section goes on until the next heading; its lines are joined.

    Raises:
        ValueError: a heading is missing, twice, empty or out of order.

    """
    lines = inspect.cleandoc(docstring).splitlines()
    texts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines[1:]:
        heading, colon, rest = line.partition(":")
        if colon and heading in HEADINGS:
            if heading in texts:
                raise ValueError(f"'{heading}:' is there twice")
            current = texts[heading] = []
        current.append(rest if colon and heading in HEADINGS else line)
    joined = {heading: " ".join(" ".join(part).split()) for heading, part in texts.items()}
    if tuple(joined) != HEADINGS or not all(joined.values()):
        wanted = ", ".join(f"'{heading}:'" for heading in HEADINGS)
        raise ValueError(f"must have, in this order and none empty: {wanted}")
    return Explanation(
        summary=lines[0].rstrip("."),
        **{heading.lower().replace(" ", "_"): text for heading, text in joined.items()},
    )
