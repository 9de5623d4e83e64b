"""Ctrl-C while training: the first ends the run after the update under way, the second at once."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupt:
    """Within it, the first SIGINT or SIGTERM sets `asked` and calls `notice`; a second SIGINT kills the run.

    >>> with Interrupt(lambda: None) as interrupt:
    ...     interrupt.asked
    False
    """

    def __init__(self, notice: Callable[[], None]):
        self.asked = False
        self._notice = notice
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        import threading

        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self._notice()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
