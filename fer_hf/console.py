"""The only module that prints for people: results on stdout, progress and the library's log on stderr.

All other modules log through `logging.getLogger(__name__)`. The command line shows that log with `show_log`; in a
notebook it stays quiet until the caller configures `logging`. Progress bars are drawn here alone, for what takes more
than two seconds, and `show_progress(False)` switches them off.
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console

T = TypeVar("T")
BAR_AFTER = 2.0
"""Seconds before a progress bar appears."""
LOG_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal, such as in a log file."""
QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "ORT_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""What the libraries read when they are imported."""
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red"}

_alone = os.environ.get("RANK", "0") == "0"  # in a launch, one process speaks for all
console = Console(stderr=True, markup=False, emoji=False, highlight=False, quiet=not _alone)
output = Console(markup=False, emoji=False, highlight=False, quiet=not _alone)
logger = logging.getLogger(__name__)
_progress = {"shown": True}


def show_progress(shown: bool) -> None:
    """Switch all progress bars and lines of progress on or off.

    Args:
        shown: False draws none from now on; True, the state at the beginning, draws them again.

    Example:
        >>> show_progress(False)
        >>> show_progress(True)
    """
    _progress["shown"] = shown


def progress_shown() -> bool:
    """Whether progress is to be drawn."""
    return _progress["shown"]


class LogHandler(logging.Handler):
    """Shows the records of the library's log on stderr; `extra={"style": "bold"}` gives one a style of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        style = getattr(record, "style", STYLES.get(record.levelno, "dim"))
        console.print(record.getMessage(), style=style, soft_wrap=True)


def show_log() -> None:
    """Show the library's log, from INFO on, to people. The command line calls this, for good."""
    library = logging.getLogger("fer_hf")
    library.setLevel(logging.INFO)
    library.propagate = False
    if not any(isinstance(handler, LogHandler) for handler in library.handlers):
        library.addHandler(LogHandler())


def quiet_libraries() -> None:
    """Leave the terminal to our own lines, for good: bars and chatter of the libraries off, their errors on.

    The command line calls this before it imports them; a library that changed these settings would be a bad guest.
    """
    os.environ |= {name: value for name, value in QUIET.items() if name not in os.environ}
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    for name in ("accelerate", "datasets", "huggingface_hub", "optimum", "torch", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)  # those that are imported already have levels of their own
    for module, switch in (
        ("datasets", "disable_progress_bars"),
        ("transformers.utils.logging", "disable_progress_bar"),
    ):
        if module in sys.modules:
            getattr(sys.modules[module], switch)()


def counted(count: float, noun: str) -> str:
    """A number of things: `1 image`, `1,200 images`, `1.5 epochs`."""
    shown = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{shown} {noun}{'' if count == 1 else 's'}"


def track(items: Iterable[T], what: str, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Iterate, with a progress bar from the third second on; without a terminal, with a line in the log now and then.

    Args:
        items: what to iterate over.
        what: what is being done, such as "decoding images".
        total: the number of items, for iterables without a length.
        quiet: draw nothing, as in all but the main process of a launch.

    Example:
        >>> list(track([1, 2, 3], "counting"))
        [1, 2, 3]
    """
    from rich.progress import Progress  # which `fer-hf --help` need not wait for

    total = total if total is not None else len(items)  # type: ignore[arg-type]
    quiet = quiet or not progress_shown()
    progress = Progress(console=console, transient=True)
    task, began, bar = progress.add_task(what, total=total), time.monotonic(), False
    next_line = began + LOG_EVERY
    try:
        for done, item in enumerate(items, 1):
            yield item
            progress.advance(task)
            now = time.monotonic()
            if quiet:
                continue
            if not bar and console.is_terminal and now - began > BAR_AFTER:
                progress.start()
                bar = True
            if not console.is_terminal and now > next_line:
                logger.info("  %s: %s of %s", what, f"{done:,}", f"{total:,}")
                next_line = now + LOG_EVERY
    finally:
        if bar:
            progress.stop()
