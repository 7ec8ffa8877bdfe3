"""Rates by layer, decay, freezing."""

import pytest
import torch
from timm.optim import param_groups_layer_decay

from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.models.load import load_model
from fer_hf.models.network import heads, layer_depths
from fer_hf.training.parameters import frozen_batch_norms, parameter_groups, set_trainable

FER7 = LABEL_SETS["fer7"]


def timm_model(name: str, **settings):
    return load_model(name, FER7, pretrained=False, **settings).model


@pytest.mark.parametrize(("name", "below"), [("test_vit", 1.0), ("test_resnet", 1.0), ("mobilenetv3_small_050", 0.5)])
def test_rates_are_timms_layer_decay_from_the_head_down(name, below):
    """timm's own function, on the bare network. Where its head shares a layer, ours lies one power above."""
    model = timm_model(name)
    network = model.timm_model
    theirs = {}
    exempt = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    for group in param_groups_layer_decay(network, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=exempt):
        theirs |= {id(p): (group["lr_scale"], group["weight_decay"]) for p in group["params"]}
    in_head = {id(p) for p in heads(model)[0].parameters()}
    seen = 0
    for group in parameter_groups(model, 0.01, 0.1, layer_decay=0.5):
        for p in group["params"]:
            scale, decay = theirs[id(p)]
            assert group["lr"] == pytest.approx(0.01 * scale * (1.0 if id(p) in in_head else below))
            assert group["weight_decay"] == decay
            seen += 1
    assert seen == len(list(model.parameters()))


def test_biases_and_norms_do_not_decay_and_the_head_has_its_own_rate():
    model = timm_model("test_resnet")
    groups = parameter_groups(model, 0.01, 0.05, head_learning_rate=0.1)
    assert {(g["lr"], g["weight_decay"]) for g in groups} == {(0.01, 0.05), (0.01, 0.0), (0.1, 0.05), (0.1, 0.0)}
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    in_head = {id(p) for p in heads(model)[0].parameters()}
    assert {id(p) for g in groups if g["lr"] == 0.1 for p in g["params"]} == in_head


def test_stages_choose_what_learns():
    model = timm_model("test_resnet")

    def learning():
        return {name for name, p in model.named_parameters() if p.requires_grad}

    everything = learning()
    of_head = {"timm_model.fc.weight", "timm_model.fc.bias"}
    set_trainable(model, "head", "key")
    assert learning() == of_head
    assert len(parameter_groups(model, 0.1, 0.1)) == 2
    assert frozen_batch_norms(model) == [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    sizes = []
    for layers in range(1, max(layer_depths(model).values()) + 1):
        set_trainable(model, layers, "key")
        sizes.append(len(learning()))
    assert sizes == sorted(set(sizes))
    assert learning() == everything
    set_trainable(model, ["layer4"], "key")
    assert learning() == of_head | {name for name in everything if ".layer4." in name}
    assert 0 < len(frozen_batch_norms(model)) < len([m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    set_trainable(model, "all", "key")
    assert learning() == everything
    set_trainable(model, ["bn1"], "key")  # the stem's, not those of the blocks
    assert learning() == of_head | {"timm_model.bn1.weight", "timm_model.bn1.bias"}


def test_parts_that_do_not_exist_are_refused():
    model = timm_model("test_resnet")
    with pytest.raises(UserError, match=r"key: no part of the model is called 'blocks.6'; it has bn1, conv1, .*layer4"):
        set_trainable(model, ["layer4", "blocks.6"], "key")
    with pytest.raises(UserError, match="layers below its head, not 99"):
        set_trainable(model, 99, "key")
