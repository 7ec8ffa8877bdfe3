import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import transformers
from PIL import Image
from transformers import (
    AutoImageProcessor,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    PvtConfig,
    PvtForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import FerError, UserError
from fer_hf.images.batches import to_uint8
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.models import load
from fer_hf.models.load import check_loads_again, load_model, save_model
from fer_hf.models.network import heads

FER7 = LABEL_SETS["fer7"]
DIMA806 = ["sad", "disgust", "angry", "neutral", "fear", "surprise", "happy"]
FACE = Image.effect_noise((48, 48), 80)


def tiny_vit(folder: Path, labels: list[str]) -> Path:
    """A checkpoint as transformers writes it, with labels in an order of its own."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def logits(loaded, image=FACE):
    transform = EvalTransform(ImageSpec.from_processor(loaded.processor))
    with torch.inference_mode():
        return loaded.model.eval()(pixel_values=transform([to_uint8(image)])).logits[0]


def test_head_rows_are_kept_and_reordered_by_name(tmp_path):
    folder = tiny_vit(tmp_path, DIMA806)
    own, aligned = load_model(str(folder)), load_model(str(folder), FER7)
    assert aligned.label_names == FER7
    assert aligned.head.startswith("kept")
    before = dict(zip(DIMA806, logits(own).tolist(), strict=True))
    assert dict(zip(FER7, logits(aligned).tolist(), strict=True)) == pytest.approx(before, abs=1e-6)
    save_model(aligned.model, aligned.processor, tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"))
    assert again.label_names == FER7
    torch.testing.assert_close(logits(again), logits(aligned), rtol=0, atol=1e-6)


def test_fewer_labels_keep_their_rows_and_more_get_a_new_head(tmp_path):
    folder = tiny_vit(tmp_path, DIMA806)
    fewer = load_model(str(folder), LABEL_SETS["fer6"])
    assert fewer.head.startswith("kept")
    assert len(logits(fewer)) == 6
    more = load_model(str(folder), LABEL_SETS["fer8"])
    assert more.head.startswith("new")
    assert more.label_names == LABEL_SETS["fer8"]
    assert len(logits(more)) == 8


def test_weights_stored_in_half_precision_are_trained_in_float32(tmp_path):
    folder = tiny_vit(tmp_path, DIMA806)
    ViTForImageClassification.from_pretrained(folder).half().save_pretrained(folder)
    loaded = load_model(str(folder), FER7)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_seven_labels_of_something_else_are_not_kept(tmp_path):
    folder = tiny_vit(tmp_path, ["tench", "goldfish", "shark", "ray", "cock", "hen", "ostrich"])
    with pytest.raises(UserError, match="does not name emotions"):
        load_model(str(folder))
    loaded = load_model(str(folder), FER7)
    assert loaded.head.startswith("new")
    original = ViTForImageClassification.from_pretrained(folder)
    assert not torch.equal(heads(loaded.model)[0].weight, original.classifier.weight)
    assert torch.equal(loaded.model.vit.embeddings.cls_token, original.vit.embeddings.cls_token)


def test_timm_from_random_weights_is_as_timm_makes_it():
    torch.manual_seed(5)
    loaded = load_model("test_resnet", FER7, pretrained=False, image_size=48)
    spread = {name: float(p.std()) for name, p in loaded.model.timm_model.named_parameters() if p.ndim == 4}
    torch.manual_seed(6)
    reference = timm.create_model("test_resnet", num_classes=7)
    expected = {name: float(p.std()) for name, p in reference.named_parameters() if p.ndim == 4}
    assert spread == pytest.approx(expected, rel=0.25)
    assert loaded.base_model is None


@pytest.mark.parametrize("labels", [FER7, LABEL_SETS["fer6"]])
def test_a_saved_timm_model_gives_pipeline_the_same_probabilities(tmp_path, labels):
    loaded = load_model("timm/test_resnet", FER7, pretrained=False, image_size=48)
    save_model(loaded.model, loaded.processor, tmp_path / "seven")
    aligned = load_model(str(tmp_path / "seven"), labels)
    save_model(aligned.model, aligned.processor, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["label_names"] == list(config["id2label"].values()) == list(labels)
    assert config["pretrained_cfg"]["input_size"] == [3, 48, 48]
    classifier = pipeline("image-classification", model=str(tmp_path / "saved"))
    found = {row["label"]: row["score"] for row in classifier(FACE.convert("RGB"), top_k=7)}
    expected = torch.softmax(logits(load_model(str(tmp_path / "saved"))), dim=0).tolist()
    assert found == pytest.approx(dict(zip(labels, expected, strict=True)), abs=1e-5)


def test_vit_pipeline_gives_the_same_probabilities(tmp_path):
    loaded = load_model(str(tiny_vit(tmp_path / "own", DIMA806)), FER7)
    save_model(loaded.model, loaded.processor, tmp_path / "saved")
    classifier = pipeline("image-classification", model=str(tmp_path / "saved"))
    found = {row["label"]: row["score"] for row in classifier(FACE.convert("RGB"), top_k=7)}
    expected = torch.softmax(logits(loaded), dim=0).tolist()
    assert found == pytest.approx(dict(zip(FER7, expected, strict=True)), abs=1e-3)


def test_image_size_of_convolution_nets_and_of_random_transformers(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=3)
    ResNetForImageClassification(config).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), FER7, image_size=40)
    assert ImageSpec.from_processor(loaded.processor).size == (40, 40)
    vit = tiny_vit(tmp_path / "vit", DIMA806)
    with pytest.raises(UserError, match=r"leave model\.image_size out"):
        load_model(str(vit), FER7, image_size=48)
    random = load_model(str(vit), FER7, image_size=48, pretrained=False)
    assert len(logits(random)) == 7
    timm_vit = load_model("test_vit", FER7, image_size=64, pretrained=False)
    assert len(logits(timm_vit)) == 7


def test_dropout_goes_to_timm_models_only(tmp_path):
    loaded = load_model("test_efficientnet", FER7, pretrained=False, drop_rate=0.3)
    assert loaded.model.timm_model.drop_rate == 0.3
    with pytest.raises(UserError, match=r"drop_rate is for timm models"):
        load_model(str(tiny_vit(tmp_path, DIMA806)), FER7, drop_rate=0.3)


def test_an_architecture_without_stochastic_depth():
    with pytest.raises(UserError, match=r"'densenet121' does not take model\.drop_path_rate: .*keyword argument"):
        load_model("densenet121", FER7, pretrained=False, drop_path_rate=0.1)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("timm/efficientnet_b0.ra_in1k", 32),
        ("efficientnet_b2", 32),
        ("resnet18", 32),
        ("resnet50", 32),
        ("mobilenetv3_small_100", 32),
        ("mobilevit_xxs", 64),
        ("densenet121", 32),
        ("vit_tiny_patch16_224", 64),
    ],
)
def test_the_models_of_the_studies(name, size):
    """The ViT-B/16 of the studies is the tiny one, but wider."""
    loaded = load_model(name, FER7, pretrained=False, image_size=size)
    assert ImageSpec.from_processor(loaded.processor).size == (size, size)
    result = logits(loaded)
    assert result.shape == (7,)
    assert result.isfinite().all()


@pytest.mark.parametrize(
    "labels", [FER7[::-1], LABEL_SETS["fer6"], LABEL_SETS["fer8"]], ids=["another order", "fewer", "more"]
)
def test_a_finished_run_on_new_data(tmp_path, labels):
    finished = load_model("test_resnet", FER7, pretrained=False, image_size=48, drop_rate=0.2)
    torch.nn.init.normal_(heads(finished.model)[0].weight)
    save_model(finished.model, finished.processor, tmp_path / "run" / "model")
    loaded = load_model(str(tmp_path / "run"), labels)
    assert loaded.label_names == tuple(labels)
    own, kept = finished.model.state_dict(), loaded.model.state_dict()
    assert all(torch.equal(own[key], kept[key]) for key in own if "fc" not in key)
    scores = dict(zip(FER7, logits(finished).tolist(), strict=True))
    if set(labels) <= set(FER7):
        assert logits(loaded).tolist() == pytest.approx([scores[label] for label in labels], abs=1e-5)
        assert loaded.head == "kept, rows by name"
    else:
        assert loaded.head == "new (random weights)"
        assert not set(heads(loaded.model)[0].weight.flatten().tolist()) & set(
            heads(finished.model)[0].weight.flatten().tolist()
        )
    save_model(loaded.model, loaded.processor, tmp_path / "next" / "model")
    again = load_model(str(tmp_path / "next"))
    assert again.label_names == tuple(labels)
    torch.testing.assert_close(logits(again), logits(loaded))


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"timm models of a similar name: .*resnet18"):
        load_model("resnt18", FER7)
    with pytest.raises(UserError, match=r"no config\.json"):
        load_model(str(tmp_path), FER7)
    with pytest.raises(UserError, match="no labels of its own"):
        load_model("resnet18", pretrained=False)
    folder = tiny_vit(tmp_path / "broken", DIMA806)
    (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('"hidden_size": 16', '"hidden_size": 32')
    )
    with pytest.raises(UserError, match="would be random"):
        load_model(str(folder), FER7)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"broken' could not be loaded: .*header"):
        load_model(str(folder), FER7)
    weights.unlink()
    with pytest.raises(UserError, match=r"broken' could not be loaded: .*no file named"):
        load_model(str(folder), FER7)


LOAD = """
import sys, torch
from fer_hf.emotions import LABEL_SETS
from fer_hf.models.load import load_model
for name in sys.argv[1:]:
    torch.manual_seed(0)
    loaded = load_model(name, LABEL_SETS["fer7"])
    print(loaded.base_model, "|", loaded.head, "|", float(sum(p.abs().sum() for n, p in loaded.model.named_parameters()
          if "classifier" not in n and "fc" not in n)), "|", len(loaded.notes))
"""


def test_from_the_hub_over_http(hub, tmp_path):
    """A timm repository (as timm pushes it) and dima806's label order, each fetched by the real client."""
    timm_model = timm.create_model("test_resnet", num_classes=10)
    folder = tmp_path / "timm"
    folder.mkdir()
    settings = timm_model.pretrained_cfg | {"num_classes": 10}
    (folder / "config.json").write_text(
        json.dumps({"architecture": "test_resnet", "num_classes": 10, "pretrained_cfg": settings}, default=list)
    )
    from safetensors.torch import save_file

    save_file(timm_model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    hub.add_repo("timm/test_resnet.r160_in1k", folder)
    hub.add_repo("dima806/facial_emotions_image_detection", tiny_vit(tmp_path / "vit", DIMA806))
    env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    names = ("test_resnet", "timm/test_resnet.r160_in1k", "dima806/facial_emotions_image_detection")
    done = subprocess.run([sys.executable, "-c", LOAD, *names], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *of_timm, of_dima806 = [line.split(" | ") for line in done.stdout.strip().splitlines()]
    backbone = sum(float(p.abs().sum()) for n, p in timm_model.named_parameters() if "fc" not in n)
    assert len(of_timm) == 2
    for base, kind, weights, _ in of_timm:
        assert (base, kind) == ("timm/test_resnet.r160_in1k", "new (random weights)")
        assert float(weights) == pytest.approx(backbone, rel=1e-5)
    base, kind, _, notes = of_dima806
    assert (base, kind, notes) == ("dima806/facial_emotions_image_detection", "kept, rows by name", "1")
    assert hub.escaped == []


def test_processor_of_a_saved_model_can_be_read_back(tmp_path):
    loaded = load_model("test_efficientnet", FER7, pretrained=False, image_size=64)
    save_model(loaded.model, loaded.processor, tmp_path)
    assert ImageSpec.from_processor(AutoImageProcessor.from_pretrained(tmp_path)) == ImageSpec.from_processor(
        loaded.processor
    )


# --- several classifiers, and classifiers that are convolutions


def two_headed(folder: Path, labels: list[str]) -> Path:
    """A DeiT whose two classifiers say different things."""
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = DeiTForImageClassificationWithTeacher(DeiTConfig(**small, image_size=32, patch_size=16, **names))
    for classifier in heads(model):
        torch.nn.init.normal_(classifier.weight)
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def convolution(folder: Path, labels: list[str]) -> Path:
    """A network of timm whose classifier is a convolution of one pixel."""
    loaded = load_model("dla46x_c", labels, pretrained=False, image_size=32)
    torch.nn.init.normal_(heads(loaded.model)[0].weight)
    save_model(loaded.model, loaded.processor, folder)
    return folder


@pytest.mark.parametrize("make", [two_headed, convolution])
def test_all_classifiers_keep_their_rows_by_name(make, tmp_path):
    own = load_model(make(tmp_path / "own", DIMA806))
    aligned = load_model(tmp_path / "own", FER7[::-1])
    rows = [own.label_names.index(label) for label in FER7[::-1]]
    assert aligned.head == "kept, rows by name"
    assert torch.allclose(logits(own)[rows], logits(aligned), rtol=1e-5)
    save_model(aligned.model, aligned.processor, tmp_path / "again")
    assert torch.allclose(logits(load_model(tmp_path / "again")), logits(aligned), rtol=1e-5)


def test_all_classifiers_are_new_for_new_labels(tmp_path):
    folder = two_headed(tmp_path, [f"class {number}" for number in range(20)])
    loaded = load_model(folder, FER7)
    assert loaded.head == "new (random weights)"
    assert [classifier.out_features for classifier in heads(loaded.model)] == [7, 7]
    assert all(classifier.weight.std() < 0.03 for classifier in heads(loaded.model))


# --- what is saved can be loaded again


def test_a_fresh_network_is_loaded_again_and_nothing_is_left_of_it(tmp_path):
    torch.manual_seed(0)
    loaded = load_model("test_resnet", FER7, pretrained=False, image_size=32)
    state = torch.get_rng_state()
    check_loads_again(loaded, tmp_path / "check")
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir())


def test_a_config_with_a_number_of_labels_of_its_own_gets_ours(tmp_path):
    """PVT's has 1,000, whatever the names of the labels are."""
    small = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4}
    PvtForImageClassification(PvtConfig(**small, image_size=32)).save_pretrained(tmp_path / "own")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "own")
    loaded = load_model(tmp_path / "own", FER7)
    check_loads_again(loaded, tmp_path / "check")
    save_model(loaded.model, loaded.processor, tmp_path / "ours")
    check_loads_again(load_model(tmp_path / "ours"), tmp_path / "check")  # whose rows are kept


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model.register_buffer("mask", torch.ones(2), persistent=False), "mask is missing"),
        (lambda model: setattr(model.timm_model, "layer4", torch.nn.Identity()), "size mismatch|logits differs|shape"),
        (lambda model: setattr(model, "twice", model.timm_model.fc), "share"),
    ],
)
def test_a_network_that_would_not_come_back_is_refused(change, reason, tmp_path):
    loaded = load_model("test_resnet", FER7, pretrained=False, image_size=32)
    change(loaded.model)
    with pytest.raises(UserError, match=rf"is not trained: transformers .*({reason}).*such as timm/resnet18"):
        check_loads_again(loaded, tmp_path / "check")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_not_the_networks_fault(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(load, "save_model", full)
    with pytest.raises(FerError, match=r"could not be written to .*No space left") as error:
        check_loads_again(load_model("test_resnet", FER7, pretrained=False, image_size=32), tmp_path / "check")
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("architecture", "needs"),
    [
        ("swin_tiny_patch4_window7_224", 4),
        ("swin_s3_tiny_224", 4),
        ("swinv2_tiny_window8_256", 5),
        ("swinv2_cr_tiny_224", 5),
    ],
)
def test_swin_of_timm_comes_back_or_is_refused(architecture, needs, tmp_path):
    """Also one that was saved without the setting that transformers 4.57 needs; SwinV2 only in transformers 5."""
    small = {"img_size": 64, "embed_dim": 8, "depths": (2, 2, 1, 1), "num_heads": (1, 2, 2, 2), "window_size": 4}
    config = TimmWrapperConfig(architecture=architecture, model_args=small)
    config.id2label, config.label2id = {0: "x", 1: "y"}, {"x": 0, "y": 1}
    config.pretrained_cfg = timm.get_pretrained_cfg(architecture).to_dict() | {"input_size": [3, 64, 64]}
    TimmWrapperForImageClassification(config).save_pretrained(tmp_path / "old")
    if int(transformers.__version__.split(".")[0]) < needs:
        with pytest.raises(UserError, match=r"cannot load .*meta tensor.* Take another network, such as"):
            load_model(tmp_path / "old", FER7)
        return
    loaded = load_model(tmp_path / "old", FER7)
    check_loads_again(loaded, tmp_path / "check")
    save_model(loaded.model, loaded.processor, tmp_path / "new")
    scores = {row["label"]: row["score"] for row in pipeline("image-classification", model=str(tmp_path / "new"))(FACE)}
    assert set(scores) < set(FER7)
