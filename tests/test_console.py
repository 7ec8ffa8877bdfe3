"""Bars go to stderr, late, and only to a terminal; a log file gets a line now and then; a caller can have neither."""

import logging
from typing import Any

import pytest
from rich.console import Console

from fer_hf import console

AS_IT_IS: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


def terminal(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setattr(console, "console", Console(stderr=True, force_terminal=is_terminal, width=80, **AS_IT_IS))


@pytest.mark.parametrize(
    ("after", "is_terminal", "quiet"), [(-1, True, False), (60, True, False), (-1, False, False), (-1, True, True)]
)
def test_a_bar_is_shown_after_a_while_and_to_people_only(monkeypatch, capsys, after, is_terminal, quiet):
    monkeypatch.setattr(console, "BAR_AFTER", after)
    terminal(monkeypatch, is_terminal)
    assert list(console.track(iter("abc"), "reading", total=3, quiet=quiet)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""
    assert ("reading" in err) == (after < 0 and is_terminal and not quiet)
    assert err == "" or "\x1b[2K" in err  # and wiped out in the end


def test_the_bar_goes_when_an_error_comes(monkeypatch, capsys):
    monkeypatch.setattr(console, "BAR_AFTER", -1)
    terminal(monkeypatch, True)
    bar = console.track([1, 2, 3], "reading")
    next(bar), next(bar)
    with pytest.raises(ZeroDivisionError):
        bar.throw(ZeroDivisionError())
    assert "\x1b[?25h" in capsys.readouterr().err  # the cursor is back


@pytest.mark.parametrize(("shown", "lines"), [(True, ["  reading: 1 of 2", "  reading: 2 of 2"]), (False, [])])
def test_without_a_terminal_progress_is_logged_unless_it_is_switched_off(monkeypatch, caplog, shown, lines):
    monkeypatch.setattr(console, "LOG_EVERY", -1)
    terminal(monkeypatch, False)
    console.show_progress(shown)
    try:
        with caplog.at_level(logging.INFO, "fer_hf"):
            list(console.track("ab", "reading"))
    finally:
        console.show_progress(True)
    assert caplog.messages == lines


def test_the_log_is_shown_as_it_is(monkeypatch, capsys):
    terminal(monkeypatch, False)
    handler = console.LogHandler()
    for level, text in ((logging.INFO, "[/tmp/a b] :smile: 100 %"), (logging.WARNING, "left out: x")):
        handler.emit(logging.LogRecord("fer_hf", level, "", 0, "%s", (text,), None))
    assert capsys.readouterr() == ("", "[/tmp/a b] :smile: 100 %\nleft out: x\n")
