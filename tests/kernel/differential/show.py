"""A case as somebody would write it: without what is left as it is by default."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass

_WIDTH = 100


def written(value: object, indent: int = 0) -> str:
    """Python text that makes the value again, over as many lines as it takes."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = [
            f"{field.name}={written(getattr(value, field.name), indent + 4)}"
            for field in fields(value)
            if field.default is MISSING or getattr(value, field.name) != field.default
        ]
        return _bracketed(f"{type(value).__name__}(", parts, ")", indent)
    if isinstance(value, tuple):
        parts = [written(item, indent + 4) for item in value]
        return _bracketed("(", parts, ",)" if len(parts) == 1 else ")", indent)
    return repr(value)


def _bracketed(begin: str, parts: list[str], end: str, indent: int) -> str:
    line = begin + ", ".join(parts) + end
    if indent + len(line) <= _WIDTH and "\n" not in line:
        return line
    inner = " " * (indent + 4)
    lines = "".join(f"{inner}{part},\n" for part in parts)
    return f"{begin}\n{lines}{' ' * indent}{end.lstrip(',')}"
