"""What is added to a run's TensorBoard events after its evaluation, read back with TensorBoard itself."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.models.classifier import load_classifier
from fer_hf.models.load import load_model, save_model
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import read_predictions
from fer_hf.runs.records import Best, Training
from fer_hf.workflows.evaluate import EvaluationOptions, evaluate_on
from fer_hf.workflows.faces import recipe_faces
from fer_hf.workflows.tensorboard import add_pictures


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
    return recipe_faces(Recipe(data={"source": source}))


@pytest.fixture
def evaluated(tmp_path, faces) -> Run:
    torch.manual_seed(0)
    run = Run(tmp_path)
    loaded = load_model("test_resnet", faces.label_names, pretrained=False, image_size=32)
    save_model(loaded.model, loaded.processor, run.model)
    classifier = load_classifier(run.model)
    for split, ttas in (("validation", ["none"]), ("test", ["none", "flip"])):
        evaluate_on(faces, split, [classifier], run, EvaluationOptions(ttas))
    best = Best("macro_f1", 0.5, epoch=1, step=12)
    run.update(training=Training(best=best, events="tensorboard/test_resnet/head"))
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
    (mistake,) = read_predictions(evaluated.predictions / "drawn-test.parquet").mistakes(1)
    face = faces.splits["test"][mistake.row]["image"].convert("RGB").resize((128, 128), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(sheet.crop((8, 31, 136, 159))), np.asarray(face))  # the first, below the title
    assert sheet.height == 31 + 2 * (128 + 2 * 15 + 8)  # two rows of ten


def test_a_run_without_events_gets_no_pictures(evaluated, faces):
    evaluated.update(training=Training(best=Best("macro_f1", 0.5, epoch=1, step=12)))
    add_pictures(evaluated, faces)
    assert not evaluated.tensorboard.exists()


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
    evaluations = run.metrics.evaluations
    assert {name: one.tta for name, one in evaluations.items()} == {
        "drawn-test": "none",
        "drawn-test-ten_crop": "ten_crop",
    }
    files = [read_predictions(run.path / one.predictions).logits for one in evaluations.values()]
    assert not np.allclose(*files, atol=1e-3)
    assert "| PyTorch + ten crops |" in run.card.read_text()
    assert set(pictures(run.path / run.metrics.training.events)) == {"confusion_matrix/test", "misclassified/test"}
