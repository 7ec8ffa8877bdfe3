import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor, pipeline

from fer_hf.data.readers import toy
from fer_hf.deploy import onnx as deploy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import FerError, UserError
from fer_hf.images.spec import ImageSpec
from fer_hf.models.classifier import predict_logits
from fer_hf.models.load import load_model, save_model
from fer_hf.models.network import head

FER7 = LABEL_SETS["fer7"]


def test_without_optimum_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fer_hf\[onnx\]'"):
        deploy.require_optimum()


def test_a_sample_is_seeded_and_never_larger_than_the_set():
    faces = toy.load(train=1, validation=1, test=1, size=16)["train"]
    assert len(deploy.sample(faces, 100)) == 7
    assert deploy.sample(faces, 3)["id"][:] == deploy.sample(faces, 3)["id"][:]


@pytest.fixture(scope="module")
def faces():
    return toy.load(train=8, validation=2, test=3, size=48)


def timm_folder(folder, architecture, size=48):
    torch.manual_seed(0)
    loaded = load_model(architecture, FER7, pretrained=False, image_size=size)
    torch.nn.init.normal_(head(loaded.model).weight, std=0.1)  # some architectures begin with zeros
    save_model(loaded.model, loaded.processor, folder)
    return folder


def vit_folder(folder, _=None):
    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    names = {"id2label": dict(enumerate(FER7)), "label2id": {name: i for i, name in enumerate(FER7)}}
    ViTForImageClassification(ViTConfig(**settings, image_size=32, patch_size=8, **names)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.export
@pytest.mark.parametrize(
    ("make", "name"),
    [(timm_folder, "test_resnet"), (timm_folder, "test_efficientnet"), (timm_folder, "test_vit3"), (vit_folder, "")],
)
def test_onnx_and_int8_follow_pytorch(tmp_path, faces, make, name):
    folder = make(tmp_path / "model", name)
    loaded = load_model(str(folder))
    spec = ImageSpec.from_processor(loaded.processor)
    report = deploy.export_onnx(folder, deploy.pixel_values(faces["test"], spec))
    assert report["max_logit_difference"] < 1e-4
    assert (folder / report["file"]).stat().st_size / 1e6 == pytest.approx(report["megabytes"], abs=1e-3)
    quantised = deploy.quantise(folder, deploy.sample(faces["train"], 32), spec)
    assert sorted(p.name for p in (folder / "onnx").iterdir()) == ["model.onnx", "model_int8.onnx"]
    assert not [p for p in folder.iterdir() if p.is_dir() and p.name != "onnx"]
    assert quantised["calibration_images"] == 32
    expected = predict_logits(loaded.model, faces["test"], spec)
    float32 = predict_logits(deploy.load_onnx(folder), faces["test"], spec, batch_size=5)
    assert float32 == pytest.approx(expected, abs=1e-4)
    int8 = predict_logits(deploy.load_onnx(folder, deploy.INT8), faces["test"], spec)
    assert not np.array_equal(int8, expected)
    assert np.corrcoef(int8.ravel(), expected.ravel())[0, 1] > 0.95


@pytest.mark.export
@pytest.mark.parametrize("make", [timm_folder, vit_folder])
def test_pipeline_names_the_labels_of_both_files(tmp_path, faces, make):
    folder = make(tmp_path / "model", "test_resnet")
    spec = ImageSpec.from_processor(load_model(str(folder)).processor)
    deploy.export_onnx(folder, deploy.pixel_values(faces["test"], spec))
    deploy.quantise(folder, faces["train"], spec)
    face = faces["test"][0]["image"].convert("RGB")
    expected = {
        row["label"]: row["score"] for row in pipeline("image-classification", model=str(folder))(face, top_k=7)
    }
    for file_name, tolerance in ((deploy.FLOAT, 1e-4), (deploy.INT8, 0.2)):
        model = deploy.load_onnx(folder, file_name)
        processor = AutoImageProcessor.from_pretrained(folder)
        found = pipeline("image-classification", model=model, image_processor=processor)(face, top_k=7)
        assert {row["label"]: row["score"] for row in found} == pytest.approx(expected, abs=tolerance)


@pytest.mark.export
def test_a_file_that_differs_is_not_kept(tmp_path, faces, monkeypatch):
    folder = timm_folder(tmp_path / "model", "test_resnet")
    spec = ImageSpec.from_processor(load_model(str(folder)).processor)
    monkeypatch.setattr(deploy, "TOLERANCE", 0.0)
    with pytest.raises(FerError, match="differs from PyTorch"):
        deploy.export_onnx(folder, deploy.pixel_values(faces["test"], spec))
    assert not (folder / "onnx" / deploy.FLOAT).exists()


@pytest.mark.export
def test_height_and_width_are_fixed_and_the_batch_is_free(tmp_path, faces):
    import onnx

    folder = timm_folder(tmp_path / "model", "test_efficientnet")
    spec = ImageSpec.from_processor(load_model(str(folder)).processor)
    deploy.export_onnx(folder, deploy.pixel_values(faces["test"], spec))
    batch, _, height, width = onnx.load(folder / "onnx" / deploy.FLOAT).graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert (height.dim_value, width.dim_value) == (48, 48)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "timm_wrapper"


@pytest.mark.export
def test_a_model_without_the_file_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match="fer-hf export RUN --int8"):
        deploy.load_onnx(timm_folder(tmp_path / "model", "test_resnet"), deploy.INT8)


def test_pixel_values(faces):
    spec = ImageSpec.from_processor(ViTImageProcessor(size={"height": 32, "width": 32}))
    assert deploy.pixel_values(faces["test"], spec).shape == (21, 3, 32, 32)
    assert isinstance(faces["test"][0]["image"], Image.Image)
