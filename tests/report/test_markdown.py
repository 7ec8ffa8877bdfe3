"""Nothing that somebody wrote is markup, tables line up, and a licence is one the Hub takes."""

import pytest

from fer_hf.report.markdown import (
    Markdown,
    counted,
    duration,
    fenced,
    licence_metadata,
    markdown,
    number,
    percent,
    table,
)


def test_small_formats():
    assert [duration(s) for s in (45.2, 2340, 7500)] == ["45 s", "39 min", "2 h 5 min"]
    assert percent(0.6412, [0.625, 0.657]) == "64.1% [62.5, 65.7]"
    assert percent(None) == "–"
    assert [percent(v) for v in (0.0, 1.0, 0.0003, 0.9996, 0.00002, 0.9995, 0.0005)] == [
        *("0.0%", "100.0%", "0.03%", "99.96%", "0.002%", "99.95%", "0.1%"),
    ]
    assert [number(v) for v in (0.0, 0.00012, 1.23456, None)] == ["0.000", "0.0001", "1.235", "–"]
    assert [counted(n, "image") for n in (0, 1, 1200, 1.0, 1.5)] == [
        *("0 images", "1 image", "1,200 images", "1 image", "1.5 images"),
    ]
    assert duration(0.2) == "less than a second"
    assert fenced("a: 1\n```\nb", "yaml") == "````yaml\na: 1\n```\nb\n````"
    assert markdown("C # x #1") == r"C \# x \#1"
    assert markdown("cpu_from_scratch, 64.1% (a) 1.5") == "cpu_from_scratch, 64.1% (a) 1.5"
    assert markdown("_a_ | <b> & `c`") == r"\_a\_ \| &lt;b> &amp; \`c\`"
    assert markdown(Markdown("**b**")) == "**b**"
    assert table(["a", "n"], [["x", 1], ["yy", 20]]) == "| a   |   n |\n| --- | --: |\n| x   |   1 |\n| yy  |  20 |"


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("apache-2.0", ("apache-2.0", None)),
        ("DbCL 1.0\n(as published)", ("other", "DbCL 1.0 (as published)")),
        ("other", ("other", None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_a_licence_without_an_id_is_named(licence, expected):
    assert tuple(licence_metadata(licence).values()) == expected
