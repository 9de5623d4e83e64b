"""What is said of update after update, told once and counted."""

from collections.abc import Callable


class Said:
    """Tells a text when it is first said; of its repeats until `end` it tells the number.

    >>> said = Said(print)
    >>> for text in ["train_loss is nan; the update is dropped"] * 20:
    ...     said.again(text)
    train_loss is nan; the update is dropped
    >>> said.end()
    train_loss is nan; the update is dropped (19 times more)
    """

    def __init__(self, tell: Callable[[str], None]):
        self._tell = tell
        self._text, self._repeats = "", 0

    def again(self, text: str) -> None:
        """Say a text; one that was said just before is counted."""
        if text == self._text:
            self._repeats += 1
            return
        self.end()
        self._text = text
        self._tell(text)

    def end(self) -> None:
        """Tell how often the last text was repeated; the next one is a new one."""
        if self._repeats:
            self._tell(f"{self._text} ({self._repeats} time{'s' * (self._repeats != 1)} more)")
        self._text, self._repeats = "", 0
