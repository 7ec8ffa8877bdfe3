"""Accuracy on a mixture is that of a test set which really is one."""

import numpy as np
import pytest
from scipy.stats import norm

from fer_hf.evaluation.mixture import SHARES, accuracy_on_mixtures
from fer_hf.files import read_csv
from fer_hf.runs.folder import Run
from fer_hf.workflows.mixture import compare_mixtures


def test_mixtures_are_those_that_could_be_drawn():
    """A set of equally many images of each class and gender, from which mixtures can be drawn outright."""
    rng = np.random.default_rng(0)
    member, references = np.divmod(np.arange(1200), 600)
    member, references = member.astype(bool), references % 3
    right = rng.random((2, 1200)) < np.where(member, 0.9, 0.6)
    predicted = np.where(right, references, (references + 1) % 3)
    found = accuracy_on_mixtures(references, predicted, member, 3)
    for share, estimate in zip(SHARES, found, strict=True):
        chosen = np.concatenate(
            [
                np.flatnonzero((references == label) & (member == of))[: round(200 * part)]
                for label in range(3)
                for of, part in ((True, share), (False, 1 - share))
            ]
        )
        drawn = (predicted == references)[:, chosen].mean()
        assert estimate.value == pytest.approx(drawn, abs=0.03)
        assert estimate.low < estimate.value < estimate.high
    for of, estimate in ((False, found[0]), (True, found[-1])):
        hits = (predicted == references)[:, member == of]
        assert estimate.value == pytest.approx(hits.mean())
    one = accuracy_on_mixtures(references, predicted[:1], member, 3)[0]
    share = one.value
    width = norm.ppf(0.975) * (share * (1 - share) / 600) ** 0.5
    assert (one.high - one.low) / 2 == pytest.approx(width, rel=0.1)


def test_class_shares_are_the_same_in_every_mixture():
    """Women are mostly happy, and happy faces are easy: that makes no difference here."""
    references = np.array([0] * 80 + [1] * 20 + [0] * 20 + [1] * 80 + [2] * 30)  # the third class has no men
    member = np.arange(230) < 100
    member[200:] = True
    right = np.arange(230) % 10 < np.where(references == 0, 9, 5)
    found = accuracy_on_mixtures(references, np.where(right, references, 2)[None], member, 3)
    assert [estimate.value for estimate in found] == pytest.approx([0.7] * 5)


def test_runs_are_drawn_over_both_mixtures(tmp_path, cli):
    from run_maker import LABELS, make_run, noisy

    from fer_hf.data.columns import make_split
    from fer_hf.runs.predictions import read_predictions, write_predictions

    references = [LABELS[number % 3] for number in range(300)]
    for women in (1.0, 0.5, 0.0, None):
        mixture = None if women is None else {"gender": {"female": women, "male": 1 - women}}
        name = f"women_{women}" if mixture else "all"
        made = make_run(tmp_path / "study" / name, noisy(references, 0.7, 1), references, data={"mixture": mixture})
        file = made.predictions / "toy-test.parquet"
        data = read_predictions(file)
        gender = [None if n > 290 else "female" if n // 3 % 2 else "male" for n in range(300)]
        split = make_split(data.label_names, [b""] * 300, data.labels.tolist(), data.ids, gender=gender)
        write_predictions(file, split, data.logits)
    code, out, err = cli("mixture", tmp_path / "study")
    assert code == 0, err
    assert "toy test: 291 images, of which 144 are gender female" in out
    rows = list(read_csv(tmp_path / "study/mixture.csv", ("configuration", "trained_share", "accuracy"), {}))
    assert len(rows) == 4 * 5
    assert {row["trained_share"] for _, _, row in rows} == {"0.0", "0.5", "1.0", ""}
    assert (tmp_path / "study/mixture.png").is_file()
    alone = compare_mixtures([tmp_path / "study/all"], output=tmp_path / "alone")
    assert alone.rows[0].trained is None
    assert Run(tmp_path / "study/all").exists()
    for of, message in (
        ("gender=woman", "No mixture can be made of gender='woman': the images have gender female, male."),
        ("race=asian", "Of no image is 'race' known. Attributes that the predictions have: gender."),
    ):
        code, _, err = cli("mixture", tmp_path / "study", "--of", of)
        assert code == 2
        assert message in err
