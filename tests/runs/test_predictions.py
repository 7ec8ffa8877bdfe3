"""What is written is what is read, and a file is whole or not there."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from scipy.special import softmax

from fer_hf.errors import UserError
from fer_hf.metrics import classification_metrics
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import Predictions, figures_of, read_predictions, write_predictions
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


def test_the_most_confident_mistakes_come_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.02, 0.98], [0.3, 0.7], [0.8, 0.2]])
    labels = np.array([1, 0, 0, 0, 0])
    predictions = Predictions(list("abcde"), labels, np.log(probabilities), ("sad", "happy"), {})
    found = predictions.mistakes(50)
    assert [(one.row, one.id, one.true, one.predicted) for one in found] == [
        (2, "c", "sad", "happy"),
        (3, "d", "sad", "happy"),
        (0, "a", "happy", "sad"),
    ]
    assert [one.confidence for one in found] == pytest.approx([0.98, 0.7, 0.6])
    assert predictions.mistakes(1) == found[:1]
    right = Predictions(["b", "e"], labels[[1, 4]], np.log(probabilities[[1, 4]]), ("sad", "happy"), {})
    assert right.mistakes(50) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"logits": [[1, 2, 3], [0, float("nan"), 0]]}, "NaN or infinite, for 1 of 2 images, such as 'b'"),
        ({"logits": [[1, 2, 3], [0, float("inf"), 0]]}, "NaN or infinite, for 1 of 2 images, such as 'b'"),
        ({"id": ["a", "a"]}, "has an id twice, 'a'"),
        ({"label": [0, -1]}, "has 1 of 2 images without a label of its classes, such as 'b'"),
        ({"label": [0, None]}, "has 1 of 2 images without a label of its classes, such as 'b'"),
        ({"id": [], "label": [], "logits": []}, "holds no image"),
    ],
)
def test_what_cannot_be_right_is_said_with_the_file_and_the_image(tmp_path, changed, message):
    features = Features(
        id=Value("string"), label=ClassLabel(names=NAMES), logits=List(Value("float32"), length=len(NAMES))
    )
    content = {"id": ["a", "b"], "label": [0, 2], "logits": LOGITS.tolist()} | changed
    file = tmp_path / "toy-test.parquet"
    Dataset.from_dict(content, features).to_parquet(file)
    with pytest.raises(UserError, match=message) as caught:
        figures_of(file)
    assert str(caught.value).startswith(str(file))


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
