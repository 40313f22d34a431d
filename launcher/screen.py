"""Where a command speaks: the script's lines on one stream, ours and the progress on the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from eflib.launcher import wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PLAIN_SECONDS = 10.0
"""How often progress is told where it cannot be drawn over."""
SAME_SECONDS = 60.0
"""How often when there is none: just to say that somebody still follows."""


class Screen:
    """Tells of a job: decision, progress, rescales, and the lines of its script.

    On a terminal the progress is one line that is drawn over; elsewhere it is told when something
    about the job's size changes, and every few seconds.

    Args:
        out: For the script's lines.
        err: For what we say.
        clock: Seconds that only grow.
    """

    def __init__(
        self, out: TextIO, err: TextIO, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out
        self._err = err
        self._clock = clock
        self._console = Console(file=err, highlight=False, soft_wrap=True)
        self._is_drawn = False
        self._last_told = ("", "", 0.0)
        self._last_drawn = ""

    def say(self, text: str, *, style: str = "") -> None:
        """Write a line of ours."""
        self._clear()
        self._console.print(Text(text, style=style), soft_wrap=True)

    def script(self, lines: Iterable[str], prefix: str) -> None:
        """Write lines of the script, each with a prefix."""
        text = "".join(f"{prefix} {line}\n" for line in lines)
        if text:
            self._clear()
            self._out.write(text)
            self._out.flush()

    def progress(self, status: wording.Status) -> None:
        """Show where a job stands."""
        text = f"{wording.title(status)}: {wording.progress(status)}"
        if self._console.is_terminal:
            self._draw(text)
            return
        sign = f"{status.get('state')} {status.get('world_size')}"
        last_sign, last_text, last_time = self._last_told
        pause = SAME_SECONDS if text == last_text else PLAIN_SECONDS
        if sign != last_sign or self._clock() - last_time >= pause:
            self._last_told = (sign, text, self._clock())
            self.say(text)

    def close(self) -> None:
        """Take the progress line away."""
        self._clear()

    def _draw(self, text: str) -> None:
        if self._is_drawn and text == self._last_drawn:
            return
        width = max(20, self._console.width - 1)
        shown = text if cell_len(text) <= width else set_cell_size(text, width - 3) + "..."
        self._clear()
        self._console.print(Text(shown, style="cyan"), end="", soft_wrap=True)
        self._err.flush()
        self._is_drawn, self._last_drawn = True, text

    def _clear(self) -> None:
        if self._is_drawn:
            self._err.write("\r\x1b[2K")
            self._err.flush()
            self._is_drawn = False
