"""The prompt set for synthetic faces."""

import pytest

from fer_hf.collect.prompts import prompt_set
from fer_hf.emotions import EMOTIONS
from fer_hf.errors import UserError


def test_every_kind_once_and_neutral_without_intensity() -> None:
    records = prompt_set(intensities=("mild", "extreme"), ages=("20-39", "70+"), per_kind=2)
    assert len(records) == 2 * 8 * 2 * 2 * 2
    assert len({record["id"] for record in records}) == len({record["seed"] for record in records}) == len(records)
    assert {record["emotion"] for record in records} == set(EMOTIONS)
    assert records == prompt_set(intensities=("mild", "extreme"), ages=("20-39", "70+"), per_kind=2)
    assert records[0]["seed"] != prompt_set(seed=1)[0]["seed"]


def test_the_findings_of_the_study_are_in_the_text() -> None:
    for record in prompt_set(intensities=("extreme",), cells=(5, 4)):
        text = record["prompt"]
        people = {"female": "women", "male": "men"}[record["gender"]]
        assert "movie" in text
        assert "realistic" not in text.lower()
        assert "5 rows and 4 columns" in text
        assert "20 headshots" in text
        assert text.count(f" {people} ") + text.count(f" {people},") == 2
        if record["emotion"] != "neutral":
            assert text.startswith("Extreme ")
            assert text.count("xtreme") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genders": ("woman",)}, "'woman' is no gender: use female, male"),
        ({"ages": ("30",)}, "'30' is no age"),
        ({"intensities": ("huge",)}, "'huge' is no intensity"),
        ({"emotions": ("smug",)}, "'smug' is not an emotion"),
    ],
)
def test_unknown_values(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_set(**options)
    assert issubclass(UserError, ValueError)
