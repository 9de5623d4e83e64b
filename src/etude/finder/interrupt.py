"""Ctrl-C while a test runs: it waits for a moment at which everything can be put back."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Within it the first Ctrl-C sets `asked`, for who looks at it between two updates; the second raises.

    One that nobody answered is raised at the end. Where a handler of the user's own is in place, and outside
    the main thread, nothing changes.

    >>> with Interrupt() as interrupt:
    ...     interrupt.asked
    False
    """

    def __init__(self) -> None:
        self.asked = False
        self._waits = False

    def __enter__(self) -> "Interrupt":
        if _main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._waits = True
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waits:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self.asked and error is None:
                raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the end of the block."""
    if not _main_thread():
        yield
        return
    asked: list[Any] = []
    former = signal.signal(signal.SIGINT, lambda *how: asked.append(how))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former if former is not None else signal.SIG_DFL)
        if asked:
            signal.raise_signal(signal.SIGINT)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
