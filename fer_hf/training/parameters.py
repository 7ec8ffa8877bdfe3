"""Which parameters learn, and how fast: layers by depth, freezing, layer-wise rates, no decay of biases and norms."""

import re
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from fer_hf.errors import UserError
from fer_hf.models.network import head_of

INNER = r"^(timm_model|backbone)\."  # what holds the network of timm


def depths(model: PreTrainedModel) -> dict[str, int]:
    """The layer of every parameter, by its name: 0 for the stem or the embeddings, the highest number for the head.

    timm says what the layers of its models are. In any other model, a layer is what shares a name up to its first
    number, such as `vit.encoder.layer.3`; parameters in between belong to the layer before them.
    """
    names = [name for name, _ in model.named_parameters()]
    inner = next(
        (part for part in ("timm_model", "backbone") if hasattr(getattr(model, part, None), "group_matcher")), ""
    )
    if inner:
        network = getattr(model, inner)
        found = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
        layers = {f"{inner}.{name}": layer for name, layer in found.items()}
    else:
        layers, known = {}, [""]
        for name in names:
            numbered = re.match(r".*?\.\d+\.", name)
            if numbered and numbered[0] not in known:
                known.append(numbered[0])
            layers[name] = known.index(numbered[0]) if numbered else len(known) - 1
    head = {id(parameter) for parameter in head_of(model).parameters()}
    top = max(layers.values()) + 1
    layers = {name: top if id(p) in head else layers.get(name, top) for name, p in model.named_parameters()}
    present = sorted(set(layers.values()))  # without the number that only the head had
    return {name: present.index(layer) for name, layer in layers.items()}


def parameter_groups(
    model: PreTrainedModel,
    learning_rate: float,
    weight_decay: float,
    head_learning_rate: float | None = None,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for an optimiser, of the parameters that learn.

    The head has `head_learning_rate`, or `learning_rate`; each layer below, counted from the head down, has
    `learning_rate * layer_decay ** distance` (arXiv 2106.08254). Biases, norms and what timm says do not decay.
    """
    layers = depths(model)
    top = max(layers.values())
    exempt = set(getattr(getattr(model, "timm_model", None), "no_weight_decay", set)())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim <= 1 or name.removeprefix("timm_model.") in exempt else weight_decay
        rate = learning_rate * layer_decay ** (top - layers[name])
        if layers[name] == top and head_learning_rate:
            rate = head_learning_rate
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def set_trainable(model: PreTrainedModel, which: str | int | list[str], key: str) -> None:
    """Let a part of a model learn and freeze the rest.

    `which` is "all", "head", a number of layers below the head, or names of parts, such as `blocks.6` (the head learns
    with each of these). Raises `UserError`, beginning with `key`, when there is no such part.
    """
    layers = depths(model)
    top = max(layers.values())
    if isinstance(which, list):
        for part in which:
            if not any(_is_in(name, part) for name in layers):
                parts = sorted({re.sub(INNER, "", name).split(".")[0] for name in layers})
                raise UserError(f"{key}: no part of the model is called {part!r}; it has {', '.join(parts)}.")
    elif isinstance(which, int) and which > top:
        raise UserError(f"{key}: the model has {top} layers below its head, not {which}.")
    for name, parameter in model.named_parameters():
        if isinstance(which, list):
            learns = layers[name] == top or any(_is_in(name, part) for part in which)
        else:
            learns = which == "all" or layers[name] >= top - (0 if which == "head" else int(which))
        parameter.requires_grad_(learns)


def _is_in(name: str, part: str) -> bool:
    """Whether a parameter belongs to a part: `timm_model.blocks.6.0.bn1.weight` to `blocks.6`, not to `bn1`."""
    return f"{re.sub(INNER, '', name)}.".startswith(f"{part}.")


def frozen_batch_norms(model: nn.Module) -> list[nn.Module]:
    """Batch norms that do not learn: their running statistics must not change either."""
    norms = [(module, list(module.parameters())) for module in model.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm, weights in norms if weights and not any(p.requires_grad for p in weights)]
