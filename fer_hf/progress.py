"""What the terminal shows: results on stdout, all else on stderr, as it is; a bar for what takes over two seconds."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")
PATIENCE = 2.0  # seconds

console = Console(stderr=True, markup=False, emoji=False, highlight=False)
output = Console(markup=False, emoji=False, highlight=False)


def track(items: Iterable[T], what: str, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Iterate, with a progress bar from the third second on. `total` is for iterables without a length."""
    total = total if total is not None else len(items)  # type: ignore[arg-type]
    progress, began, shown = Progress(console=console, transient=True), time.monotonic(), False
    task = progress.add_task(what, total=total)
    try:
        for item in items:
            yield item
            progress.advance(task)
            if not shown and not quiet and console.is_terminal and time.monotonic() - began > PATIENCE:
                progress.start()
                shown = True
    finally:
        if shown:
            progress.stop()
