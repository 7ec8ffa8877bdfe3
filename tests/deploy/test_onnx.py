"""Export: the ONNX file follows PyTorch; what does not is not kept."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from fer_hf.data.readers import toy
from fer_hf.deploy import onnx as deploy
from fer_hf.deploy.quantise import quantise
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import FerError, UserError
from fer_hf.images.spec import ImageSpec
from fer_hf.models.classifier import load_classifier
from fer_hf.models.load import load_model, save_model
from fer_hf.models.network import heads

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


def timm_folder(folder, architecture, **options):
    torch.manual_seed(0)
    loaded = load_model(architecture, FER7, pretrained=False, image_size=48, **options)
    torch.nn.init.normal_(heads(loaded.model)[0].weight, std=0.1)  # some architectures begin with zeros
    save_model(loaded.model, loaded.processor, folder)
    return folder


def attention_folder(folder, architecture):
    return timm_folder(folder, architecture, attention=True)


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
    [
        (timm_folder, "test_resnet"),
        (attention_folder, "test_efficientnet"),
        (timm_folder, "test_vit3"),
        (vit_folder, ""),
    ],
)
def test_onnx_and_int8_follow_pytorch(tmp_path, faces, make, name):
    import onnx

    folder = make(tmp_path / "model", name)
    classifier = load_classifier(folder)
    spec = classifier.spec
    report = deploy.export_onnx(classifier, folder, deploy.pixel_values(faces["test"], spec))
    assert report.max_logit_difference < 1e-4
    assert (folder / report.file).stat().st_size / 1e6 == pytest.approx(report.megabytes, abs=1e-3)
    batch, _, height, width = onnx.load(folder / report.file).graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert (height.dim_value, width.dim_value) == spec.size
    report = quantise(folder, deploy.sample(faces["train"], 32), spec)
    assert sorted(p.name for p in (folder / "onnx").iterdir()) == ["model.onnx", "model_int8.onnx"]
    assert not [p for p in folder.iterdir() if p.is_dir() and p.name != "onnx"]
    assert (report.calibration, report.calibration_images) == ("minmax", 32)
    expected = classifier.predict(faces["test"])
    float32 = load_classifier(folder, "onnx").predict(faces["test"], batch_size=5)
    assert float32 == pytest.approx(expected, abs=1e-4)
    quantised = load_classifier(folder, "int8")
    assert quantised.label_names == FER7
    int8 = quantised.predict(faces["test"])
    assert not np.array_equal(int8, expected)
    assert np.corrcoef(int8.ravel(), expected.ravel())[0, 1] > 0.95


@pytest.mark.export
def test_a_file_that_differs_is_not_kept(tiny_model, tmp_path, faces, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    classifier = load_classifier(folder)
    monkeypatch.setattr(deploy, "TOLERANCE", 0.0)
    with pytest.raises(FerError, match="differs from PyTorch"):
        deploy.export_onnx(classifier, folder, deploy.pixel_values(faces["test"], classifier.spec))
    assert list((folder / "onnx").iterdir()) == []
    assert json.loads((folder / "config.json").read_text())["model_type"] == "timm_wrapper"


def test_pixel_values(faces):
    spec = ImageSpec.from_processor(ViTImageProcessor(size={"height": 32, "width": 32}))
    assert deploy.pixel_values(faces["test"], spec).shape == (21, 3, 32, 32)
    assert isinstance(faces["test"][0]["image"], Image.Image)
