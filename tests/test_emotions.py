import subprocess
import sys

import pytest

from fer_hf.emotions import ALIASES, EMOTIONS, LABEL_SETS, LabelError, align, canonical, emotion_of, label_names

DIMA806 = ["sad", "disgust", "angry", "neutral", "fear", "surprise", "happy"]
RAF_DB = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]


def test_label_sets_are_alphabetical_and_nested():
    assert list(EMOTIONS) == sorted(EMOTIONS)
    assert set(LABEL_SETS["fer6"]) < set(LABEL_SETS["fer7"]) < set(LABEL_SETS["fer8"])
    assert {name: len(labels) for name, labels in LABEL_SETS.items()} == {"fer6": 6, "fer7": 7, "fer8": 8}
    assert "disgust" not in LABEL_SETS["fer6"]
    assert "contempt" not in LABEL_SETS["fer7"]


def test_every_alias_leads_to_an_emotion():
    assert set(ALIASES.values()) <= set(EMOTIONS)
    assert not set(ALIASES) & set(EMOTIONS)


@pytest.mark.parametrize(("name", "expected"), [("Happiness", "happy"), (" ANGER_ ", "angry"), ("Sad", "sad")])
def test_canonical(name, expected):
    assert canonical(name) == expected


@pytest.mark.parametrize(("name", "expected"), [("Happiness", "happy"), ("tench", ""), ("", "")])
def test_emotion_of(name, expected):
    assert emotion_of(name) == expected


def test_canonical_refuses_with_the_nearest_name():
    with pytest.raises(LabelError, match=r"'surprize' is not an emotion\. Did you mean 'surprise'"):
        canonical("surprize")


def test_align_reorders_by_name():
    rows = align(DIMA806, LABEL_SETS["fer7"])
    assert [DIMA806[i] for i in rows] == list(LABEL_SETS["fer7"])
    assert [canonical(RAF_DB[i]) for i in align(RAF_DB, DIMA806)] == DIMA806


def test_align_may_leave_labels_out_but_not_invent_them():
    assert [DIMA806[i] for i in align(DIMA806, LABEL_SETS["fer6"])] == list(LABEL_SETS["fer6"])
    with pytest.raises(LabelError, match="contempt is wanted"):
        align(DIMA806, LABEL_SETS["fer8"])


def test_one_emotion_twice_is_refused():
    with pytest.raises(LabelError, match="one emotion twice"):
        label_names(["anger", "angry"])


def test_an_unknown_label_set_is_refused():
    with pytest.raises(LabelError, match="fer6, fer7, fer8"):
        label_names("fer9")


def test_import_is_light():
    heavy = "[m for m in ('torch', 'transformers', 'datasets', 'timm', 'numpy') if m in sys.modules]"
    code = f"import sys, fer_hf, fer_hf.cli, fer_hf.emotions, fer_hf.recipe; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)
