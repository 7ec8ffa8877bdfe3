import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from PIL import ImageOps
from scipy.special import softmax

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.images.batches import to_uint8
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.metrics import classification_metrics
from fer_hf.models.classifier import predict_logits
from fer_hf.models.load import load_model, save_model
from fer_hf.models.network import head
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import metrics_from, write_predictions
from fer_hf.workflows.evaluate import evaluate_split


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return load_model("test_resnet", LABEL_SETS["fer7"], pretrained=False, image_size=32)


@pytest.fixture(scope="module")
def decided():
    """A model whose answers are far from uniform: only then is a mean of probabilities unlike one of logits."""
    torch.manual_seed(0)
    loaded = load_model("test_resnet", LABEL_SETS["fer7"], pretrained=False, image_size=32)
    torch.nn.init.normal_(head(loaded.model).weight, std=5)
    return loaded


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return toy.load(train=1, validation=1, test=5, size=32)["test"]


def test_logits_do_not_depend_on_the_batch_size_and_keep_the_order(model, faces):
    spec = ImageSpec.from_processor(model.processor)
    whole = predict_logits(model.model, faces, spec, batch_size=64)
    assert whole.shape == (35, 7)
    assert whole.dtype == np.float32
    assert predict_logits(model.model, faces, spec, batch_size=3) == pytest.approx(whole, abs=1e-5)
    direct = model.model(**model.processor([face.convert("RGB") for face in faces["image"]])).logits
    assert whole == pytest.approx(direct.detach().numpy(), abs=2e-2)


def plain_loop(model, pictures, tta):
    """Mean probability `(N, C)` over the views of each picture, cut out with PIL and classified one at a time."""
    transform = EvalTransform(ImageSpec.from_processor(model.processor))
    rows = []
    for picture in pictures:
        seen = [picture]
        if tta == "ten_crop":
            width, height = picture.size
            w, h = {32: 28, 40: 35, 48: 42}[width], {32: 28, 40: 35, 48: 42}[height]
            x, y = width - w, height - h
            corners = [(0, 0), (x, 0), (0, y), (x, y), (x // 2, y // 2)]
            seen = [
                turned.crop((a, b, a + w, b + h)) for turned in (picture, ImageOps.mirror(picture)) for a, b in corners
            ]
        elif tta == "flip":
            seen = [picture, ImageOps.mirror(picture)]
        logits = [model.model(pixel_values=transform(to_uint8(view)[None])).logits for view in seen]
        rows.append(torch.cat(logits).softmax(dim=-1).mean(dim=0).detach().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("tta", ["flip", "ten_crop"])
def test_augmented_predictions_are_those_of_a_plain_loop(decided, faces, tta, mixed):
    pictures = faces["image"][:]
    if mixed:  # colour and grey, three shapes
        shapes = [(32, 48), (40, 40), (48, 32)]
        modes = ["L", "RGB"]
        pictures = [p.convert(modes[n % 2]).resize(shapes[n % 3]) for n, p in enumerate(pictures)]
    dataset = Dataset.from_dict({"image": pictures, "label": faces["label"][:]})
    logits = predict_logits(decided.model, dataset, ImageSpec.from_processor(decided.processor), batch_size=8, tta=tta)
    expected = plain_loop(decided, pictures, tta)
    assert np.exp(logits) == pytest.approx(expected, abs=1e-5)
    assert softmax(logits, axis=1) == pytest.approx(expected, abs=1e-5)
    assert np.abs(plain_loop(decided, pictures, "none") - expected).max() > 1e-2  # the loop tells them apart


@pytest.mark.export
@pytest.mark.parametrize("tta", ["flip", "ten_crop"])
def test_augmentation_of_an_onnx_model(decided, faces, tmp_path, tta):
    from fer_hf.deploy.onnx import export_onnx, pixel_values
    from fer_hf.models.classifier import load_onnx

    spec = ImageSpec.from_processor(decided.processor)
    save_model(decided.model, decided.processor, tmp_path)
    export_onnx(tmp_path, pixel_values(faces, spec))
    onnx = predict_logits(load_onnx(tmp_path), faces, spec, tta=tta)
    assert onnx == pytest.approx(predict_logits(decided.model, faces, spec, tta=tta), abs=1e-3)


def test_predictions_file_holds_everything_the_figures_need(model, faces, tmp_path):
    path = tmp_path / "predictions" / "toy-test.parquet"
    described = faces.add_column("gender", ["female", "male"] * 17 + ["female"])
    figures = evaluate_split(model.model, described, ImageSpec.from_processor(model.processor), path)
    table = Dataset(pq.read_table(path))
    assert table.column_names == ["label", "id", "gender", "logits"]
    assert table.features["label"].names == list(LABEL_SETS["fer7"])
    assert table["id"][:] == faces["id"][:]
    logits = np.array(table["logits"][:], dtype=np.float32)
    assert figures == metrics_from(path)
    assert figures == classification_metrics(logits, np.array(faces["label"][:]), LABEL_SETS["fer7"])
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_no_half_file(faces, tmp_path):
    with pytest.raises(pa.ArrowInvalid):
        write_predictions(tmp_path / "x.parquet", faces, np.zeros((2, 7)))
    assert not (tmp_path / "x.parquet").exists()


def test_two_processes_evaluate_as_one(model, tmp_path):
    """`accelerate launch` on two CPU processes: 35 images do not divide evenly, and none is lost or counted twice."""
    save_model(model.model, model.processor, tmp_path / "model")
    faces = tmp_path / "faces"
    for row in toy.load(train=1, validation=1, test=5, size=32)["test"]:
        name = LABEL_SETS["fer7"][row["label"]]
        (faces / "test" / name).mkdir(parents=True, exist_ok=True)
        row["image"].save(faces / "test" / name / f"{row['id']}.png")
    command = ["-m", "fer_hf", "evaluate", tmp_path / "model", "--data", f"folder:{faces}", "--batch-size", "4"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    for name, prefix in (("one", []), ("two", launch)):
        done = subprocess.run(
            [sys.executable, *prefix, *map(str, command), "--output", str(tmp_path / name)],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    one, two = (Dataset(pq.read_table(next((tmp_path / n / "predictions").iterdir()))) for n in ("one", "two"))
    assert one["id"][:] == two["id"][:]
    assert np.array(two["logits"][:]) == pytest.approx(np.array(one["logits"][:]), abs=1e-6)
    found = [Run(tmp_path / name).metrics()["evaluations"]["faces-test"] for name in ("one", "two")]
    assert [entry.pop("processes") for entry in found] == [1, 2]
    assert found[0]["confusion_matrix"] == found[1]["confusion_matrix"]
    assert found[1]["images"] == 35
