"""Bars go to stderr, late, and only to a terminal."""

import pytest
from rich.console import Console

from fer_hf import console as progress


@pytest.mark.parametrize(
    ("patience", "terminal", "quiet"), [(-1, True, False), (60, True, False), (-1, False, False), (-1, True, True)]
)
def test_a_bar_is_shown_after_a_while_and_to_people_only(monkeypatch, capsys, patience, terminal, quiet):
    monkeypatch.setattr(progress, "PATIENCE", patience)
    monkeypatch.setattr(progress, "console", Console(stderr=True, force_terminal=terminal, width=80))
    assert list(progress.track(iter("abc"), "reading", total=3, quiet=quiet)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""
    assert ("reading" in err) == (patience < 0 and terminal and not quiet)
    assert err == "" or "\x1b[2K" in err  # and wiped out in the end


def test_the_bar_goes_when_an_error_comes(monkeypatch, capsys):
    shown = Console(stderr=True, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "PATIENCE", -1)
    monkeypatch.setattr(progress, "console", shown)
    bar = progress.track([1, 2, 3], "reading")
    next(bar), next(bar)
    with pytest.raises(ZeroDivisionError):
        bar.throw(ZeroDivisionError())
    assert "\x1b[?25h" in capsys.readouterr().err  # the cursor is back
