"""One line for each training that runs: redrawn on a terminal, written now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

WRITE_EVERY = 60.0  # seconds between two lines of the same training where lines cannot be redrawn


class StatusLines:
    """The newest line of each of up to `places` trainings, on the standard error."""

    def __init__(self, places: int):
        self.places = range(places) if sys.stderr.isatty() else ()
        self.bars: dict[str, tuple[int, tqdm]] = {}  # with their places
        self.written: dict[str, tuple[float, str]] = {}

    def show(self, name: str, line: str) -> None:
        """Show `line` as the state of the training `name`, if it is new."""
        before, last = self.written.get(name, (-WRITE_EVERY, ""))
        if line in (last, "") or not (self.places or time.monotonic() - before >= WRITE_EVERY):
            return
        if self.places:
            self._bar(name).set_description_str(f"{name}  {line}")
        else:
            tqdm.write(f"{name}  {line}", file=sys.stderr)
        self.written[name] = (time.monotonic(), line)

    def _bar(self, name: str) -> tqdm:
        if name not in self.bars:
            taken = {place for place, _ in self.bars.values()}
            place = min(place for place in self.places if place not in taken)
            bar = tqdm(bar_format="{desc}", position=place, leave=False, dynamic_ncols=True)
            self.bars[name] = place, bar
        return self.bars[name][1]

    def forget(self, name: str) -> None:
        """Give the line of a training that has ended to another."""
        if name in self.bars:
            self.bars.pop(name)[1].close()


@contextlib.contextmanager
def status_lines(places: int) -> Iterator[StatusLines]:
    """Status lines below what is logged meanwhile; they are cleared at the end."""
    lines = StatusLines(places)
    with logging_redirect_tqdm():
        try:
            yield lines
        finally:
            for name in list(lines.bars):
                lines.forget(name)
