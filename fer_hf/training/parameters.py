"""Which parameters learn, and how fast: layers by depth, freezing, layer-wise rates, no decay of biases and norms."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from fer_hf.errors import UserError
from fer_hf.models.network import layer_depths, no_weight_decay, without_prefix


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
    layers = layer_depths(model)
    top = max(layers.values())
    exempt = no_weight_decay(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in ((name, p) for name, p in model.named_parameters() if p.requires_grad):
        decay = 0.0 if parameter.ndim <= 1 or name in exempt else weight_decay
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
    layers = layer_depths(model)
    top = max(layers.values())
    if isinstance(which, list):
        for part in which:
            if not any(_is_in(name, part) for name in layers):
                parts = sorted({without_prefix(name).split(".")[0] for name in layers})
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
    return f"{without_prefix(name)}.".startswith(f"{part}.")


def frozen_batch_norms(model: nn.Module) -> list[nn.Module]:
    """Batch norms that do not learn: their running statistics must not change either."""
    norms = [(module, list(module.parameters())) for module in model.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm, weights in norms if weights and not any(p.requires_grad for p in weights)]
