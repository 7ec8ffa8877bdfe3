import json
import subprocess
import sys

import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from fer_hf.emotions import LABEL_SETS, align
from fer_hf.errors import UserError
from fer_hf.images.batches import to_uint8
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.models.attention import EmotionAttentionForImageClassification
from fer_hf.models.load import load_model, save_model
from fer_hf.models.network import heads

FER7 = LABEL_SETS["fer7"]
FACE = Image.effect_noise((48, 48), 80)


def network(name="test_efficientnet", **options):
    torch.manual_seed(0)
    loaded = load_model(name, FER7, attention=True, **{"pretrained": False, "image_size": 48} | options)
    for module in loaded.model.modules():  # so that no part of the network is an identity
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
    torch.nn.init.normal_(heads(loaded.model)[0].weight)
    return loaded


def saved(loaded, folder):
    save_model(loaded.model, loaded.processor, folder)
    return str(folder)


@torch.inference_mode()
def logits(loaded):
    transform = EvalTransform(ImageSpec.from_processor(loaded.processor))
    return loaded.model.eval()(pixel_values=transform([to_uint8(FACE)])).logits[0]


@torch.inference_mode()
def test_the_attention_is_that_of_the_papers():
    model = network().model.eval()
    pixels = torch.randn(3, 3, 48, 48)
    own = dict(model.named_parameters()) | dict(model.named_buffers())

    def perceptron(x, name, bias):
        """Two layers with a ReLU between them, (B, C) to (B, C)."""
        for layer in ("fc1", "fc2"):
            x = x @ own[f"{name}.{layer}.weight"].flatten(1).T + (own[f"{name}.{layer}.bias"] if bias else 0)
            x = x.relu() if layer == "fc1" else x
        return x

    x = model.backbone(pixels)
    x = x * perceptron(x.flatten(2).mean(2), "squeeze_excite", True).sigmoid()[:, :, None, None]
    channels = sum(perceptron(pooled, "cbam.channel", False) for pooled in (x.flatten(2).mean(2), x.flatten(2).amax(2)))
    x = x * channels.sigmoid()[:, :, None, None]
    places = functional.conv2d(torch.stack([x.mean(1), x.amax(1)], 1), own["cbam.spatial.conv.conv.weight"], padding=3)
    norm = "cbam.spatial.conv.bn"
    mean, variance = own[f"{norm}.running_mean"], own[f"{norm}.running_var"]
    places = (places - mean) / (variance + 1e-5).sqrt() * own[f"{norm}.weight"] + own[f"{norm}.bias"]
    x = x * places.sigmoid()
    expected = x.flatten(2).mean(2) @ own["classifier.weight"].T + own["classifier.bias"]
    result = model(pixels, labels=torch.tensor([0, 3, 6]))
    torch.testing.assert_close(result.logits, expected)
    torch.testing.assert_close(result.loss, functional.cross_entropy(expected, torch.tensor([0, 3, 6])))


def test_random_weights_are_as_timm_and_torch_make_them():
    torch.manual_seed(5)
    model = load_model("test_efficientnet", FER7, pretrained=False, attention=True).model
    torch.manual_seed(6)
    reference = timm.create_model("test_efficientnet", num_classes=0)
    spread = {name: float(p.detach().std()) for name, p in model.backbone.named_parameters() if p.ndim == 4}
    expected = {name: float(p.detach().std()) for name, p in reference.named_parameters() if p.ndim == 4}
    assert spread == pytest.approx(expected, rel=0.25)
    for layer in (model.squeeze_excite.fc1, model.cbam.channel.fc1):  # uniform, 1 / sqrt(inputs)
        bound = layer.weight[0].numel() ** -0.5
        assert bound * 0.8 < float(layer.weight.detach().abs().max()) <= bound


def test_the_backbone_is_that_of_a_finished_timm_run(tmp_path):
    plain = load_model("test_efficientnet", FER7, pretrained=False, image_size=56, drop_rate=0.4)
    saved(plain, tmp_path / "run" / "model")
    loaded = load_model(str(tmp_path / "run"), FER7, attention=True, drop_path_rate=0.1)
    backbone = loaded.model.backbone.state_dict()
    assert all(torch.equal(plain.model.timm_model.state_dict()[name], tensor) for name, tensor in backbone.items())
    assert (loaded.model.dropout.p, loaded.model.config.model_args) == (0.4, {"drop_path_rate": 0.1})
    assert loaded.head == "new (random weights)"
    spec, expected = (ImageSpec.from_processor(one.processor) for one in (loaded, plain))
    assert (spec.size, spec.resize) == ((56, 56), (56, 56))
    assert (spec.mean, spec.std, spec.interpolation) == (expected.mean, expected.std, expected.interpolation)


@pytest.mark.parametrize("order", [FER7, FER7[::-1], LABEL_SETS["fer6"]])
def test_a_saved_network_keeps_its_rows_by_name(tmp_path, order):
    loaded = network()
    folder = saved(loaded, tmp_path)
    again = load_model(folder, order, attention=True)
    assert again.label_names == tuple(order)
    assert again.head.startswith("kept")
    torch.testing.assert_close(logits(again), logits(loaded)[align(FER7, order)])
    assert load_model(folder).label_names == FER7


def test_more_labels_more_dropout_and_another_size(tmp_path):
    loaded = network(drop_rate=0.1)
    folder = saved(loaded, tmp_path)
    more = load_model(folder, LABEL_SETS["fer8"], drop_rate=0.5, drop_path_rate=0.2, image_size=64)
    assert more.head.startswith("new")
    assert len(logits(more)) == 8
    assert (more.model.dropout.p, more.model.config.model_args["drop_path_rate"]) == (0.5, 0.2)
    assert ImageSpec.from_processor(more.processor).size == (64, 64)
    own, kept = loaded.model.state_dict(), more.model.state_dict()
    assert all(torch.equal(own[name], kept[name]) for name in own if not name.startswith("classifier"))
    assert float(more.model.classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert load_model(folder).model.dropout.p == 0.1


ELSEWHERE = """
import json, sys
sys.modules["fer_hf"] = None  # an import of it fails
from PIL import Image
from transformers import pipeline
for name in sys.argv[2:]:
    classifier = pipeline("image-classification", model=name, trust_remote_code=True)
    print(json.dumps([type(classifier.model).__module__, classifier(Image.open(sys.argv[1]), top_k=7)]))
"""


def test_its_code_travels_with_it(tmp_path, hub):
    loaded = network()
    folder = saved(loaded, tmp_path / "model")
    FACE.save(tmp_path / "face.png")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "attention.EmotionAttentionConfig",
        "AutoModelForImageClassification": "attention.EmotionAttentionForImageClassification",
    }
    hub.add_repo("someone/emotions", tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "face.png"), folder, "someone/emotions"],
        env=hub.env(tmp_path / "home") | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = dict(zip(FER7, torch.softmax(logits(loaded), dim=0).tolist(), strict=True))
    for line, name in zip(done.stdout.strip().splitlines(), ("model", "someone"), strict=True):
        module, found = json.loads(line)
        assert module.startswith(f"transformers_modules.{name}")
        assert {row["label"]: row["score"] for row in found} == pytest.approx(expected, abs=1e-3)


def test_our_own_commands_never_run_the_code_beside_the_weights(tmp_path):
    folder = saved(network(), tmp_path)
    (tmp_path / "attention.py").write_text("raise SystemExit('this code must not run')")
    assert isinstance(load_model(folder).model, EmotionAttentionForImageClassification)
    assert isinstance(AutoModelForImageClassification.from_pretrained(folder), EmotionAttentionForImageClassification)
    assert AutoImageProcessor.from_pretrained(folder).size == {"height": 48, "width": 48}


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "mobilevit_xxs", "densenet121"])
def test_other_backbones(name):
    assert len(logits(network(name, image_size=64))) == 7


def test_what_cannot_have_attention(tmp_path):
    for name in ("test_vit", "swin_tiny_patch4_window7_224"):
        with pytest.raises(UserError, match="feature map of a convolutional network"):
            load_model(name, FER7, pretrained=False, attention=True)
    vit = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTForImageClassification(vit).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    with pytest.raises(UserError, match=r"model\.attention goes on top of timm models"):
        load_model(str(tmp_path), FER7, attention=True)
