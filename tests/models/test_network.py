"""Where the parts of a network are: bare networks of timm, wrapped and under attention, and models of transformers."""

import pytest
import timm
import torch
from torch import nn
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    ResNetConfig,
    ResNetForImageClassification,
    Swinv2Config,
    Swinv2ForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.models.load import load_model
from fer_hf.models.network import (
    crashes_channels_last,
    feature_map,
    head_names,
    heads,
    initialise_head,
    layer_depths,
    network,
    no_weight_decay,
    set_memory_format,
    timm_network,
    without_prefix,
)

FER7 = LABEL_SETS["fer7"]


def wrapped(name: str, **options):
    return load_model(name, FER7, pretrained=False, **options).model


def hf_vit():
    settings = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(**settings, image_size=32, num_labels=7))


@pytest.mark.parametrize(
    ("make", "prefix", "inner", "outputs"),
    [
        (lambda: timm.create_model("test_resnet", num_classes=5), "", lambda model: model, 5),
        (lambda: wrapped("test_resnet"), "timm_model.", lambda model: model.timm_model, 7),
        (lambda: wrapped("test_resnet", attention=True), "backbone.", lambda model: model.backbone, 7),
        (hf_vit, "", lambda model: None, 7),
    ],
    ids=["bare", "wrapped", "attention", "transformers"],
)
def test_where_timm_keeps_its_network(make, prefix, inner, outputs):
    model = make()
    assert timm_network(model) == (prefix, inner(model))
    assert network(model) is (model.timm_model if prefix == "timm_model." else model)
    assert heads(model)[0].out_features == outputs
    names = {without_prefix(name) for name, _ in model.named_parameters()}
    if inner(model) is not None:
        assert {name for name, _ in inner(model).named_parameters()} <= names
    assert not any(name.startswith(("timm_model.", "backbone.")) for name in names)


def test_a_model_without_a_classifier():
    with pytest.raises(UserError, match="has no classifier with 0 outputs"):
        heads(timm.create_model("test_resnet", num_classes=0))


def hf_deit():
    settings = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return DeiTForImageClassificationWithTeacher(DeiTConfig(**settings, image_size=32, num_labels=7))


def hf_resnet():
    settings = {"embedding_size": 8, "hidden_sizes": [8, 7], "depths": [1, 1], "layer_type": "basic", "num_labels": 7}
    return ResNetForImageClassification(ResNetConfig(**settings))


def hf_swin():
    """Small networks inside of it have seven outputs too, one for each attention head."""
    settings = {"image_size": 32, "embed_dim": 14, "depths": [1], "num_heads": [7], "window_size": 4}
    return Swinv2ForImageClassification(Swinv2Config(**settings, num_labels=7))


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (hf_deit, ["cls_classifier", "distillation_classifier"]),
        (hf_resnet, ["classifier.1"]),
        (hf_swin, ["classifier"]),
        (lambda: timm.create_model("levit_128s", num_classes=7), ["head.linear", "head_dist.linear"]),
        (lambda: timm.create_model("crossvit_9_240", num_classes=7), ["head.0", "head.1"]),
        (lambda: timm.create_model("dla46x_c", num_classes=7), ["fc"]),  # a convolution
        (lambda: wrapped("efficientformerv2_s0"), ["timm_model.head", "timm_model.head_dist"]),
        (lambda: wrapped("test_efficientnet", attention=True), ["classifier"]),
    ],
)
def test_every_classifier_is_found_and_drawn_anew_and_on_top(make, parts):
    model = make()
    assert [name for name, module in model.named_modules() if module in heads(model)] == parts
    initialise_head(model)
    for classifier in heads(model):
        assert classifier.weight.std().item() == pytest.approx(0.02, rel=0.3)
        assert not classifier.bias.any()
    assert head_names(model) == {f"{part}.{name}" for part in parts for name in ("weight", "bias")}
    depths = layer_depths(model)
    assert all(depths[name] == max(depths.values()) for name in head_names(model))


def test_only_weights_of_images_become_channels_last():
    model = nn.ModuleList([nn.Conv3d(2, 2, 1), nn.Conv2d(2, 2, 3), nn.Linear(2, 2)])
    set_memory_format(model, torch.channels_last)
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[0].weight.is_contiguous()
    set_memory_format(model, torch.contiguous_format)
    assert model[1].weight.is_contiguous()


@pytest.mark.parametrize(
    ("name", "crashes"), [("mobileone_s0", True), ("test_resnet", False), ("test_efficientnet", False)]
)
def test_networks_whose_backward_pass_would_end_the_process(name, crashes):
    with torch.device("meta"):
        assert crashes_channels_last(timm.create_model(name)) is crashes


def test_what_timm_exempts_from_decay():
    bare = timm.create_model("test_vit")
    assert {"pos_embed", "cls_token"} <= no_weight_decay(bare) == set(bare.no_weight_decay())
    assert no_weight_decay(wrapped("test_vit")) == {f"timm_model.{name}" for name in bare.no_weight_decay()}
    assert no_weight_decay(hf_vit()) == set()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "mobilenetv3_small_050"])
def test_depths_rise_from_the_stem_to_the_head(name):
    model = wrapped(name)
    layers = layer_depths(model)
    in_head = {id(p) for p in heads(model)[0].parameters()}
    assert set(layers) == {n for n, _ in model.named_parameters()}
    assert {n for n, p in model.named_parameters() if id(p) in in_head} == {
        n for n, d in layers.items() if d == max(layers.values())
    }
    assert sorted(set(layers.values())) == list(range(max(layers.values()) + 1))
    first = next(iter(layers))
    assert layers[first] == 0
    bare = layer_depths(timm.create_model(name, num_classes=7))
    assert {without_prefix(name): depth for name, depth in layers.items()} == bare


def test_depths_of_a_transformers_model():
    layers = layer_depths(hf_vit())
    assert layers["vit.embeddings.cls_token"] == 0
    assert [depth for name, depth in layers.items() if name.endswith("layernorm_before.weight")] == [1, 2, 3]
    assert layers["vit.layernorm.weight"] == 3
    assert layers["classifier.weight"] == 4


@pytest.mark.parametrize(
    ("make", "size", "name", "layout", "shape"),
    [
        (lambda: wrapped("test_resnet"), 128, "timm_model.layer4", "BCHW", (1, 96, 4, 4)),
        (lambda: wrapped("test_resnet"), 64, "timm_model.layer3", "BCHW", (1, 192, 4, 4)),  # 2 x 2 places say little
        (lambda: wrapped("test_efficientnet"), 128, "timm_model.bn2", "BCHW", (1, 256, 4, 4)),
        (lambda: wrapped("test_efficientnet", attention=True), 128, "cbam", "BCHW", (1, 256, 4, 4)),
        (lambda: wrapped("test_vit", image_size=64), 64, "timm_model.blocks.5.norm1", "BNC", (1, 17, 64)),
        (lambda: wrapped("test_vit3", image_size=64), 64, "timm_model.norm", "BNC", (1, 17, 96)),  # all tokens count
        (hf_vit, 32, "layernorm_before", "BNC", (1, 5, 8)),
        (lambda: timm.create_model("swin_tiny_patch4_window7_224"), 224, "norm", "BHWC", (1, 7, 7, 768)),
    ],
)
def test_the_last_feature_map(make, size, name, layout, shape):
    torch.manual_seed(0)
    model = make()
    state = torch.get_rng_state()
    found = feature_map(model, (size, size))
    assert found.name.endswith(name)
    assert found.layout == layout
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    outputs = []
    with found.module.register_forward_hook(lambda module, _, output: outputs.append(output)), torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    assert [tuple(output.shape) for output in outputs] == [shape]


def test_no_feature_map_of_a_tiny_image():
    with pytest.raises(UserError, match="no feature map of more than one place at 32x32 pixels"):
        feature_map(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7)), (32, 32))
