"""What is written is what is read, and a file is whole or not there."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from scipy.special import softmax

from fer_hf.errors import UserError
from fer_hf.metrics import classification_metrics
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import figures_of, read_predictions, write_predictions
from fer_hf.runs.records import Evaluation

NAMES = ["sad", "happy", "angry"]
LOGITS = np.array([[1.5, 0.25, -1.0], [0.0, 2.0, 0.5]])


@pytest.fixture
def dataset() -> Dataset:
    features = Features(id=Value("string"), label=ClassLabel(names=NAMES), image=Image(), gender=Value("string"))
    content = {"id": ["a", "b"], "label": [0, 2], "image": [None, None], "gender": ["female", None]}
    return Dataset.from_dict(content, features)


def test_predictions_come_back_with_names_and_attributes(tmp_path, dataset):
    file = tmp_path / "predictions" / "toy-test.parquet"
    write_predictions(file, dataset, LOGITS)
    read = read_predictions(file)
    assert (read.ids, read.labels.tolist(), read.label_names) == (["a", "b"], [0, 2], tuple(NAMES))
    assert read.attributes == {"gender": ["female", None]}  # and no image
    assert read.logits.dtype == np.float64
    np.testing.assert_array_equal(read.logits, LOGITS)
    np.testing.assert_allclose(read.probabilities, softmax(LOGITS, axis=1))
    assert read.predicted.tolist() == [0, 1]
    figures = figures_of(file)
    assert figures.pop("attributes") == {"gender": 1}  # known of one of the two
    assert figures == classification_metrics(LOGITS, np.array([0, 2]), NAMES)
    assert [path.name for path in file.parent.iterdir()] == ["toy-test.parquet"]
    run = Run(tmp_path)
    run.record("toy", Evaluation("toy", "test", **figures_of(file, [3, 1])))
    assert run.metrics.evaluations["toy-test"].top_k == {1: 0.5, 2: 1.0, 3: 1.0}


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, dataset):
    file = tmp_path / "toy-test.parquet"
    write_predictions(file, dataset, LOGITS)
    before = file.read_bytes()
    with pytest.raises(TypeError, match="length=3"):
        write_predictions(file, dataset, LOGITS[:, :2])
    assert file.read_bytes() == before


def test_what_holds_no_predictions_is_refused(tmp_path, dataset):
    with pytest.raises(UserError, match=r"gone\.parquet is missing: `fer-hf evaluate`"):
        read_predictions(tmp_path / "gone.parquet")
    dataset.remove_columns("label").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="holds no predictions: it lacks label, logits"):
        read_predictions(tmp_path / "other.parquet")


def test_a_damaged_file_says_how_to_get_another(tmp_path):
    (tmp_path / "toy-test.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"toy-test\.parquet is damaged: .* `fer-hf evaluate` makes it again"):
        read_predictions(tmp_path / "toy-test.parquet")
