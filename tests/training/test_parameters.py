"""Layers by depth, rates by layer, freezing: on networks of timm and of transformers."""

import pytest
import torch
from timm.optim import param_groups_layer_decay
from transformers import ViTConfig, ViTForImageClassification

from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.models.load import load_model
from fer_hf.models.network import head_of
from fer_hf.training.parameters import depths, frozen_batch_norms, parameter_groups, set_trainable

FER7 = LABEL_SETS["fer7"]


def timm_model(name: str, **settings):
    return load_model(name, FER7, pretrained=False, **settings).model


def hf_vit():
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, image_size=32, num_labels=7
        )
    )


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "mobilenetv3_small_050"])
def test_depths_rise_from_the_stem_to_the_head(name):
    model = timm_model(name)
    layers = depths(model)
    head = {id(p) for p in head_of(model).parameters()}
    assert set(layers) == {n for n, _ in model.named_parameters()}
    assert {n for n, p in model.named_parameters() if id(p) in head} == {
        n for n, d in layers.items() if d == max(layers.values())
    }
    assert sorted(set(layers.values())) == list(range(max(layers.values()) + 1))
    first = next(iter(layers))
    assert layers[first] == 0


def test_depths_of_a_transformers_model():
    layers = depths(hf_vit())
    assert layers["vit.embeddings.cls_token"] == 0
    assert [depth for name, depth in layers.items() if name.endswith("layernorm_before.weight")] == [1, 2, 3]
    assert layers["vit.layernorm.weight"] == 3
    assert layers["classifier.weight"] == 4


@pytest.mark.parametrize(("name", "below"), [("test_vit", 1.0), ("test_resnet", 1.0), ("mobilenetv3_small_050", 0.5)])
def test_rates_are_timms_layer_decay_from_the_head_down(name, below):
    """timm's own function, on the bare network. Where its head shares a layer, ours lies one power above."""
    model = timm_model(name)
    network = model.timm_model
    theirs = {}
    exempt = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    for group in param_groups_layer_decay(network, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=exempt):
        theirs |= {id(p): (group["lr_scale"], group["weight_decay"]) for p in group["params"]}
    head = {id(p) for p in head_of(model).parameters()}
    seen = 0
    for group in parameter_groups(model, 0.01, 0.1, layer_decay=0.5):
        for p in group["params"]:
            scale, decay = theirs[id(p)]
            assert group["lr"] == pytest.approx(0.01 * scale * (1.0 if id(p) in head else below))
            assert group["weight_decay"] == decay
            seen += 1
    assert seen == len(list(model.parameters()))


def test_biases_and_norms_do_not_decay_and_the_head_has_its_own_rate():
    model = timm_model("test_resnet")
    groups = parameter_groups(model, 0.01, 0.05, head_learning_rate=0.1)
    assert {(g["lr"], g["weight_decay"]) for g in groups} == {(0.01, 0.05), (0.01, 0.0), (0.1, 0.05), (0.1, 0.0)}
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    head = {id(p) for p in head_of(model).parameters()}
    assert {id(p) for g in groups if g["lr"] == 0.1 for p in g["params"]} == head


def test_stages_choose_what_learns():
    model = timm_model("test_resnet")

    def learning():
        return {name for name, p in model.named_parameters() if p.requires_grad}

    everything = learning()
    head = {"timm_model.fc.weight", "timm_model.fc.bias"}
    set_trainable(model, "head", "key")
    assert learning() == head
    assert len(parameter_groups(model, 0.1, 0.1)) == 2
    assert frozen_batch_norms(model) == [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    sizes = []
    for layers in range(1, max(depths(model).values()) + 1):
        set_trainable(model, layers, "key")
        sizes.append(len(learning()))
    assert sizes == sorted(set(sizes))
    assert learning() == everything
    set_trainable(model, ["layer4"], "key")
    assert learning() == head | {name for name in everything if ".layer4." in name}
    assert 0 < len(frozen_batch_norms(model)) < len([m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    set_trainable(model, "all", "key")
    assert learning() == everything
    set_trainable(model, ["bn1"], "key")  # the stem's, not those of the blocks
    assert learning() == head | {"timm_model.bn1.weight", "timm_model.bn1.bias"}


def test_parts_that_do_not_exist_are_refused():
    model = timm_model("test_resnet")
    with pytest.raises(UserError, match=r"key: no part of the model is called 'blocks.6'; it has bn1, conv1, .*layer4"):
        set_trainable(model, ["layer4", "blocks.6"], "key")
    with pytest.raises(UserError, match="layers below its head, not 99"):
        set_trainable(model, 99, "key")
