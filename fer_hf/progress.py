"""What the terminal shows: results on stdout, everything else on stderr, and a bar for what takes over two seconds."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")

console = Console(stderr=True)
output = Console()


def track(items: Iterable[T], what: str, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Iterate, with a progress bar from the third second on. `total` is for iterables without a length."""
    total = total if total is not None else len(items)  # type: ignore[arg-type]
    began = time.monotonic()
    with Progress(console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(what, total=total, visible=False)
        for item in items:
            yield item
            progress.update(task, advance=1, visible=time.monotonic() - began > 2)
