"""One line for each training that runs: redrawn on a terminal, written now and then elsewhere."""

import sys
import time

from tqdm import tqdm

WRITE_EVERY = 60.0  # seconds between two lines of the same training where lines cannot be redrawn


class StatusLines:
    """Shows the newest line of up to `places` trainings on the standard error.

    Use it as a context; leaving it clears the terminal's lines.
    """

    def __init__(self, places: int):
        self.terminal = sys.stderr.isatty()
        self.free = list(range(places)) if self.terminal else []
        self.bars: dict[str, tqdm] = {}
        self.written: dict[str, tuple[float, str]] = {}

    def __enter__(self) -> "StatusLines":
        return self

    def __exit__(self, *_) -> None:
        for name in list(self.bars):
            self.forget(name)

    def show(self, name: str, line: str) -> None:
        """Show `line` as the state of the training `name`, if it is new."""
        before, last = self.written.get(name, (-WRITE_EVERY, ""))
        if line in (last, ""):
            return
        if self.terminal:
            if name not in self.bars:
                self.bars[name] = tqdm(bar_format="{desc}", position=self.free.pop(0), leave=False, dynamic_ncols=True)
            self.bars[name].set_description_str(f"{name}  {line}")
        elif time.monotonic() - before >= WRITE_EVERY:
            tqdm.write(f"{name}  {line}", file=sys.stderr)
        else:
            return
        self.written[name] = (time.monotonic(), line)

    def forget(self, name: str) -> None:
        """Give the line of a training that has ended to another."""
        if name in self.bars:
            bar = self.bars.pop(name)
            self.free.append(bar.pos if bar.pos >= 0 else -bar.pos)
            bar.close()
