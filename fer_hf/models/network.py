"""Where the parts of a network are: the one place that knows how timm, transformers and our attention name them.

A network of timm comes bare, as `timm_model` in transformers' `TimmWrapperForImageClassification`, or as `backbone`
under our attention (`models.attention`); all others are models of transformers.
"""

import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification

from fer_hf.errors import UserError
from fer_hf.models.attention import EmotionAttentionConfig, EmotionAttentionForImageClassification

# Our own commands load these from here, without trust in code that lies beside the weights.
AutoConfig.register("emotion_attention", EmotionAttentionConfig, exist_ok=True)
AutoModelForImageClassification.register(EmotionAttentionConfig, EmotionAttentionForImageClassification, exist_ok=True)

WRAPPERS = ("timm_model", "backbone")
"""Attributes under which a model holds a network of timm."""
HEAD_STD = 0.02
"""Standard deviation of the weights of a new classifier."""
ENOUGH_PLACES = 16
"""Of a feature map, to tell where something is."""
PREFIXES = re.compile(rf"^((module|{'|'.join(WRAPPERS)})\.)+")  # `module` is DataParallel's


def timm_network(model: nn.Module) -> tuple[str, Any]:
    """The network of timm in a model, and what the names of its parameters begin with.

    Returns:
        `("timm_model.", network)`, `("backbone.", network)`, `("", model)` for a bare one, `("", None)` without one.
    """
    for name in WRAPPERS:
        if hasattr(getattr(model, name, None), "group_matcher"):
            return f"{name}.", getattr(model, name)
    return "", model if hasattr(model, "group_matcher") else None


def network(model: nn.Module) -> nn.Module:
    """The module that does a model's work, without the wrapper of transformers around timm: what to compile."""
    return getattr(model, "timm_model", model)


def heads(model: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The classifiers, in the order in which the model names them: linear layers, or convolutions of one pixel.

    Most networks have one; those that were distilled (DeiT, LeViT, RepViT) and some others (CrossViT, VOLO) have two,
    and add up what they say. timm says where they are; in any other model they are outside of its backbone.

    Raises:
        UserError: the model has none.

    Example:
        >>> import timm
        >>> [classifier.out_features for classifier in heads(timm.create_model("test_resnet", num_classes=7))]
        [7]
    """
    config: Any = getattr(model, "config", None)
    outputs: int = config.num_labels if config else getattr(model, "num_classes", 0)
    found: Sequence[Any]
    _, inner = timm_network(model)
    if getattr(inner, "num_classes", 0):
        noted = inner.pretrained_cfg.get("classifier") or ()
        names = (noted,) if isinstance(noted, str) else noted
        given = inner.get_classifier() if hasattr(inner, "get_classifier") else ()
        given = given if isinstance(given, tuple | list) else [given]
        parts = [*(module for name, module in inner.named_modules() if name in names), *given]
        candidates = {module for part in parts for module in part.modules()}  # each way lacks some
        found = [m for m in model.modules() if m in candidates and isinstance(m, nn.Linear | nn.Conv2d)]
    else:
        backbone = set(getattr(model, "base_model", model).modules())
        linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
        found = [m for m in linear if m not in backbone] or linear[-1:]
    classifiers = [module for module in found if len(module.weight) == outputs > 0]
    if not classifiers:
        raise UserError(f"{type(model).__name__} has no classifier with {outputs} outputs: take another network.")
    return classifiers


def initialise_head(model: nn.Module) -> None:
    """Draw new classifiers from torch's global generator, in one way for every network.

    Weights of a standard deviation of 0.02 and biases of zero, as transformers draws them (BERT, arXiv 1810.04805).
    What timm draws for networks that begin from nothing can be ten times as large; over trained features it gives a
    loss of 7 where guessing has 1.9, and disturbs them before it has learned anything.
    """
    for classifier in heads(model):
        nn.init.normal_(classifier.weight, std=HEAD_STD)
        if classifier.bias is not None:
            nn.init.zeros_(classifier.bias)


def select_outputs(model: nn.Module, rows: list[int]) -> None:
    """Keep these outputs of the classifiers, in this order."""
    for classifier in heads(model):
        for name, parameter in list(classifier.named_parameters()):
            setattr(classifier, name, nn.Parameter(parameter.detach()[rows]))
        setattr(classifier, "out_features" if isinstance(classifier, nn.Linear) else "out_channels", len(rows))


def head_names(model: nn.Module) -> set[str]:
    """Names of the parameters of the classifiers."""
    in_head = {id(parameter) for classifier in heads(model) for parameter in classifier.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in in_head}


def set_memory_format(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the weights of convolutions `(O, I, h, w)` out as `torch.channels_last`, or as they were.

    `Module.to` does it for all tensors of four dimensions or five, and fails for five.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=memory_format)


def crashes_channels_last(model: nn.Module) -> bool:
    """Whether a backward pass in channels-last would end the process on a CPU, as RepVGG's and MobileOne's do.

    Seen with torch 2.14: convolutions of one pixel, with a stride and fewer than 16 channels.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return any(c.kernel_size == (1, 1) and c.stride != (1, 1) and c.in_channels < 16 for c in convolutions)


def without_prefix(name: str) -> str:
    """The name of a parameter in the network itself: `blocks.6.0.bn1.weight` of `timm_model.blocks.6.0.bn1.weight`.

    Example:
        >>> without_prefix("timm_model.blocks.6.0.bn1.weight")
        'blocks.6.0.bn1.weight'
    """
    return PREFIXES.sub("", name)


def no_weight_decay(model: nn.Module) -> set[str]:
    """Names of the parameters that timm exempts from weight decay, such as the embeddings of positions."""
    prefix, inner = timm_network(model)
    return {f"{prefix}{name}" for name in getattr(inner, "no_weight_decay", set)()}


def layer_depths(model: nn.Module) -> dict[str, int]:
    """The layer of every parameter, by its name: 0 for the stem or the embeddings, the highest number for the head.

    timm says what the layers of its networks are. In any other model, a layer is what shares a name up to its first
    number, such as `vit.encoder.layer.3`; parameters in between belong to the layer before them.

    Example:
        >>> import timm
        >>> depths = layer_depths(timm.create_model("test_resnet", num_classes=7))
        >>> depths["conv1.0.weight"], depths["layer1.0.conv1.weight"], depths["fc.weight"]
        (0, 1, 5)
    """
    prefix, inner = timm_network(model)
    if inner is None:
        layers = _numbered_layers(model)
    else:
        groups = group_parameters(inner, inner.group_matcher(coarse=False), reverse=True)
        layers = {f"{prefix}{name}": layer for name, layer in groups.items()}
    in_head, top = head_names(model), max(layers.values()) + 1
    layers = {name: top if name in in_head else layers.get(name, top) for name, _ in model.named_parameters()}
    present = sorted(set(layers.values()))  # without the number that only the head had
    return {name: present.index(layer) for name, layer in layers.items()}


def _numbered_layers(model: nn.Module) -> dict[str, int]:
    """The layer of every parameter by the first number in its name."""
    layers, known = dict[str, int](), dict[str, int]()
    for name, _ in model.named_parameters():
        numbered = re.match(r".*?\.\d+\.", name)
        layers[name] = known.setdefault(numbered[0], len(known) + 1) if numbered else len(known)
    return layers


@dataclass(frozen=True)
class FeatureMap:
    """The last module of a network whose output still tells places of the image apart."""

    name: str
    """Of the module in the model, such as `timm_model.layer4`."""
    module: nn.Module
    layout: Literal["BCHW", "BHWC", "BNC"]
    """Of its output: channels first, channels last, or `N` tokens, the last of which are the places row by row."""
    grid: tuple[int, int]
    """Rows and columns of places."""

    def as_bchw(self, output: Tensor) -> Tensor:
        """The module's output, or its gradient, as `(B, C, rows, columns)`; tokens that are no places are left out."""
        if self.layout == "BNC":
            rows, columns = self.grid
            output = output[:, -rows * columns :].unflatten(1, self.grid)
        return output if self.layout == "BCHW" else output.permute(0, 3, 1, 2)


def feature_map(model: nn.Module, size: tuple[int, int]) -> FeatureMap:
    """Find the last feature map, on which class activation maps are drawn (Grad-CAM, arXiv 1610.02391).

    It is found by trying: of the modules whose output is a map or a row of tokens, the one that is called last among
    those on most of whose places the logits depend, and that have at least 4 x 4 places, or else the most. The 3 x 3
    places that a network makes of 96 pixels in the end say little of where it looks: on them, maps of
    EfficientNet-Lite0 on FER2013 were no better than random ones by their ROAD score, and clearly better on 6 x 6. In a
    vision transformer that classifies by its class token this is the norm before the last attention, since after it the
    other tokens are not used.

    Args:
        model: is put into evaluation mode.
        size: height and width of `pixel_values`.

    Returns:
        The module, its name, and the layout of its output.

    Raises:
        UserError: the images are so small that no map has two places.

    Example:
        >>> import timm
        >>> feature_map(timm.create_model("test_resnet"), (128, 128)).name
        'layer4'
    """
    best: FeatureMap | None = None
    calls: list[tuple[str, nn.Module, Any]] = []
    with ExitStack() as hooks, torch.inference_mode(False), torch.enable_grad():
        for name, module in model.named_modules():
            hook = module.register_forward_hook(lambda m, _, output, name=name: calls.append((name, m, output)))
            hooks.enter_context(hook)
        pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        result = model.eval()(pixels.to(next(model.parameters()).device).requires_grad_())
        loss = getattr(result, "logits", result).square().sum()
        for name, module, output in reversed(calls):
            if layout := _layout(module, output, size):
                (gradient,) = torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True)
                if gradient is not None and _share_of_places(gradient, layout) > 0.5:
                    grid = _grid(model, output, layout, size)
                    if best is None or math.prod(grid) > math.prod(best.grid):
                        best = FeatureMap(name, module, layout, grid)
                    if math.prod(grid) >= ENOUGH_PLACES:
                        return best
    if best:
        return best
    raise UserError(f"{type(model).__name__} has no feature map of more than one place at {size[0]}x{size[1]} pixels.")


def _layout(module: nn.Module, output: Any, size: tuple[int, int]) -> Any:
    """The layout of an output that can be a feature map, else None. Maps have the aspect ratio of the image."""
    if isinstance(output, Tensor) and output.ndim == 3 and output.shape[1] > 1:
        is_norm = "norm" in type(module).__name__.lower()
        return "BNC" if is_norm or list(module.children()) else None  # no queries, keys and values
    if isinstance(output, Tensor) and output.ndim == 4:
        for layout, (height, width) in {"BCHW": output.shape[2:], "BHWC": output.shape[1:3]}.items():
            if height * width > 1 and height * size[1] == width * size[0]:
                return layout
    return None


def _grid(model: nn.Module, output: Tensor, layout: str, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of places. Of tokens, those that timm calls prefixes are none; else the largest grid fits."""
    if layout != "BNC":
        height, width = output.shape[2:] if layout == "BCHW" else output.shape[1:3]
        return height, width
    prefixes = getattr(timm_network(model)[1], "num_prefix_tokens", 0)
    step = math.gcd(*size)
    height, width = size[0] // step, size[1] // step  # the smallest grid of this aspect ratio
    times = max(1, math.isqrt((output.shape[1] - prefixes) // (height * width)))
    return times * height, times * width


def _share_of_places(gradient: Tensor, layout: str) -> float:
    """The share of places in which a gradient is not zero."""
    return float((gradient.abs().sum(dim=1 if layout == "BCHW" else -1) > 0).float().mean())
