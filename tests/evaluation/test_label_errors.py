"""Confident learning: planted label errors are ranked first."""

from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from fer_hf.evaluation.label_errors import COLUMNS, label_errors_in, likely_label_errors


def noisy(seed: int = 0, images: int = 600, wrong: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Given labels (N,), probabilities (N, 4) of a good model, and the rows whose label was changed."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, images)
    logits = rng.normal(0, 1, (images, 4)) + 4 * np.eye(4)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given, changed = truth.copy(), rng.choice(images, wrong, replace=False)
    given[changed] = (given[changed] + rng.integers(1, 4, wrong)) % 4
    return given, probabilities, changed


def test_planted_errors_come_first() -> None:
    given, probabilities, changed = noisy()
    rows, quality = likely_label_errors(given, probabilities)
    assert len(set(rows[:20]) & set(changed)) >= 18
    assert len(set(rows) & set(changed)) >= 0.8 * len(changed)
    assert len(rows) < 2 * len(changed)
    assert (np.diff(quality[rows]) >= 0).all()
    assert quality.min() >= 0
    assert quality.max() <= 1


def test_rows_carry_names_and_ids(tmp_path: Path) -> None:
    given, probabilities, changed = noisy()
    names = ["sad", "happy", "fear", "angry"]
    features = Features(id=Value("string"), label=ClassLabel(names=names), logits=Sequence(Value("float32"), length=4))
    ids = [f"{row}.png" for row in range(len(given))]
    Dataset.from_dict({"id": ids, "label": given, "logits": np.log(probabilities)}, features).to_parquet(
        tmp_path / "p.parquet"
    )
    first = label_errors_in(tmp_path / "p.parquet", "validation")[0]
    row = int(first.id.removesuffix(".png"))
    assert row in changed
    assert COLUMNS == ("split", "id", "label", "suggested", "probability", "quality")
    assert (first.split, first.label) == ("validation", names[given[row]])
    assert first.suggested == names[int(probabilities[row].argmax())]
    assert first.probability == round(float(probabilities[row].max()), 4)
