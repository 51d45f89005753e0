"""Signals while something is being changed: stop cleanly, or finish first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler = Callable[[int, FrameType | None], Any] | int | None


@contextmanager
def raised() -> Iterator[None]:
    """Let the signals that end a program end the body by an exception, so it can clean up.

    Only the first does: what the body does about it is not disturbed by those that follow.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        _install(lambda _number, _frame: None)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = _install(stop)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def deferred() -> Iterator[None]:
    """Let the body finish; a signal that came meanwhile takes effect afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = _install(lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        _restore(before)
        for number in came[:1]:
            signal.raise_signal(number)


def _install(handler: Callable[[int, FrameType | None], None]) -> dict[int, _Handler]:
    """The handlers there were before; a signal that is ignored (nohup) stays so."""
    return {
        number: signal.signal(number, handler)
        for number in _SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }


def _restore(handlers: dict[int, _Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
