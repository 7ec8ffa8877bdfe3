"""Predictions are kept whole: the file holds everything the figures need, or there is none."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.metrics import classification_metrics
from fer_hf.runs.predictions import figures_of, write_predictions

FER7 = LABEL_SETS["fer7"]


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return toy.load(train=1, validation=1, test=5, size=16)["test"]


def test_predictions_file_holds_everything_the_figures_need(faces, tmp_path):
    path = tmp_path / "predictions" / "toy-test.parquet"
    logits = np.random.default_rng(0).normal(size=(35, 7)).astype(np.float32)
    write_predictions(path, faces.add_column("gender", ["female", "male"] * 17 + ["female"]), logits)
    table = Dataset(pq.read_table(path))
    assert table.column_names == ["label", "id", "gender", "logits"]
    assert table.features["label"].names == list(FER7)
    assert table["id"][:] == faces["id"][:]
    assert np.array_equal(np.array(table["logits"][:], dtype=np.float32), logits)
    assert figures_of(path) == classification_metrics(logits.astype(np.float64), np.array(faces["label"][:]), FER7)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_no_half_file(faces, tmp_path):
    with pytest.raises(pa.ArrowInvalid):
        write_predictions(tmp_path / "x.parquet", faces, np.zeros((2, 7)))
    assert not (tmp_path / "x.parquet").exists()
