"""What is added to a run's TensorBoard events after its evaluation, read back with TensorBoard itself."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.models.load import load_model, save_model
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.workflows.evaluate import evaluate_to
from fer_hf.workflows.faces import load
from fer_hf.workflows.pictures import add_pictures, misclassified


def pictures(folder):
    """`{tag: [(step, picture), ...]}` of the events in a folder."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {
        tag: [(e.step, Image.open(io.BytesIO(e.encoded_image_string))) for e in events.Images(tag)]
        for tag in events.Tags()["images"]
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("data") / "drawn"
    for split, rows in toy.load(train=4, validation=3, test=5, size=40).items():
        for row in rows:
            name = LABEL_SETS["fer7"][row["label"]]
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / split / name / f"{row['id']}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def faces(source):
    return load(Recipe(data={"source": source}))


@pytest.fixture
def evaluated(tmp_path, faces) -> Run:
    torch.manual_seed(0)
    run = Run(tmp_path)
    loaded = load_model("test_resnet", faces.label_names, pretrained=False, image_size=32)
    save_model(loaded.model, loaded.processor, run.model)
    for split, tta in (("validation", "none"), ("test", "none"), ("test", "flip")):
        evaluate_to(run, run.model, faces, split, tta=tta)
    run.update_metrics(
        training={
            "best": {"metric": "accuracy", "value": 0.5, "epoch": 1.0, "step": 12},
            "events": "tensorboard/test_resnet/head",
        }
    )
    return run


def test_pictures_of_the_plain_evaluations_at_the_best_step(evaluated, faces):
    add_pictures(evaluated, faces, most=20)
    found = pictures(evaluated.path / "tensorboard" / "test_resnet" / "head")
    assert set(found) == {
        f"{what}/{split}" for what in ("confusion_matrix", "misclassified") for split in ("validation", "test")
    }
    assert {step for events in found.values() for step, _ in events} == {12}
    assert {len(events) for events in found.values()} == {1}
    assert found["confusion_matrix/test"][0][1].size == (700, 580)
    sheet = found["misclassified/test"][0][1]
    rows, _ = misclassified(Dataset(pq.read_table(evaluated.predictions / "drawn-test.parquet")), faces.label_names, 1)
    face = faces.splits["test"][rows[0]]["image"].convert("RGB").resize((128, 128), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(sheet.crop((8, 31, 136, 159))), np.asarray(face))  # the first, below the title
    assert sheet.height == 31 + 2 * (128 + 2 * 15 + 8)  # two rows of ten


def test_a_run_without_events_gets_no_pictures(evaluated, faces):
    metrics = evaluated.metrics()
    del metrics["training"]["events"]
    evaluated.metrics_file.unlink()
    evaluated.update_metrics(**metrics)
    add_pictures(evaluated, faces)
    assert not evaluated.tensorboard.exists()


def test_the_most_confident_mistakes_come_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.02, 0.98], [0.3, 0.7], [0.8, 0.2]])
    predictions = Dataset.from_dict({"logits": np.log(probabilities), "label": [1, 0, 0, 0, 0]})
    expected = [2, 3, 0], ["sad -> happy\n98 %", "sad -> happy\n70 %", "happy -> sad\n60 %"]
    assert misclassified(predictions, ["sad", "happy"], 50) == expected
    assert misclassified(predictions, ["sad", "happy"], 1) == ([2], expected[1][:1])
    assert misclassified(predictions.select([1, 4]), ["sad", "happy"], 50) == ([], [])


def test_a_run_with_augmentation_is_labelled_everywhere(cli, source, tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        "model: {name: test_resnet, pretrained: false, image_size: 32}\n"
        "train: {max_steps: 2, per_device_train_batch_size: 8}\n"
        "evaluate: {splits: [test], tta: ten_crop}\n"
    )
    code, out, err = cli("train", "tiny.yaml", f"data.source={source}", "--output", "run")
    assert code == 0, err
    run = Run(tmp_path / "run")
    assert "pytorch + ten_crop" in out
    found = run.metrics()["evaluations"]
    assert {name: entry.get("tta") for name, entry in found.items()} == {
        "drawn-test": None,
        "drawn-test-ten_crop": "ten_crop",
    }
    files = [np.array(pq.read_table(run.path / entry["predictions"])["logits"].to_pylist()) for entry in found.values()]
    assert not np.allclose(*files, atol=1e-3)
    assert "| PyTorch + ten crops |" in (run.model / "README.md").read_text()
    events = run.metrics()["training"]["events"]
    assert set(pictures(run.path / events)) == {"confusion_matrix/test", "misclassified/test"}
