"""Run folders as a finished training leaves them, with predictions that are made up."""

from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value

from fer_hf.files import write_text
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import figures_of, write_predictions

LABELS = ("happy", "neutral", "sad")


def make_run(
    path: Path, predicted, references, *, ids=None, labels=LABELS, dataset="toy", seed=0, seconds=60.0, **recipe
):
    """A finished run; `predicted` and `references` are names of labels. Its weights are a thousand bytes."""
    run = Run(path)
    run.model.mkdir(parents=True)
    (run.model / "model.safetensors").write_bytes(b"0" * 1000)
    settings = recipe | {"train": recipe.get("train", {}) | {"seed": seed}}
    write_text(run.recipe_file, Recipe.model_validate({"name": "tiny"} | settings).to_yaml())
    ids = [f"{number:04}" for number in range(len(references))] if ids is None else ids
    content = {"id": ids, "label": list(references), "image": [None] * len(ids)}
    features = Features({"id": Value("string"), "label": ClassLabel(names=list(labels)), "image": Image()})
    logits = 4 * np.eye(len(labels), dtype=np.float32)[[labels.index(name) for name in predicted]]
    file = run.predictions / f"{dataset}-test.parquet"
    write_predictions(file, Dataset.from_dict(content, features=features), logits)
    entry = {"dataset": dataset, "split": "test", "format": "pytorch", "predictions": f"predictions/{file.name}"}
    run.update(
        data={"dataset": dataset},
        model={"parameters": 250},
        training={"seconds": seconds},
        evaluations={f"{dataset}-test": entry | {"label_names": list(labels)} | figures_of(file)},
        finished=True,
    )
    return run


def noisy(references, accuracy: float, seed: int):
    """Predictions of about this accuracy; models agree on which images are hard."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(0).random(len(references))
    right = 0.7 * hard + 0.3 * rng.random(len(references)) < accuracy
    others = [[name for name in LABELS if name != own][rng.integers(2)] for own in references]
    return [own if hit else other for own, hit, other in zip(references, right, others, strict=True)]
