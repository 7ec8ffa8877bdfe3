"""A state dict from a file into a timm architecture, such as the VGGFace2 and HSEmotion weights of EfficientNet.

Tensors are matched by timm's own names, or else all of them by their order, in which files of torchvision and of
EfficientNet-PyTorch agree with timm. The classifier of the file is never taken: its labels are not in there.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from fer_hf.errors import UserError
from fer_hf.models.network import head_names, without_prefix

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training checkpoints keep the weights."""
# Lines for plain torch; both a whole model and a training checkpoint become a state dict.
CONVERT = """
    import torch; loaded = torch.load({source!r}, map_location="cpu", weights_only=False)
    torch.save(getattr(loaded, "state_dict", lambda: loaded["state_dict"])(), {target!r})"""


def fill(model: nn.Module, path: Path) -> str:
    """Copy the tensors of a `.pt`, `.pth` or `.safetensors` file into a network, all but its classifier.

    Args:
        model: the bare network of timm.
        path: the file.

    Returns:
        One line that says which tensors matched.

    Raises:
        UserError: the file cannot be read without unpickling, or fits fewer than half of the model's tensors.
    """
    classifier = head_names(model)
    # Counters and position indices, the only integers, follow from the architecture: versions of timm differ in them.
    network, file = (
        {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        for state in (model.state_dict(), read(path))
    )
    wanted, given = ({k: v for k, v in state.items() if k not in classifier} for state in (network, file))
    matches = {k: v for k, v in given.items() if k in wanted and v.shape == wanted[k].shape}
    if 2 * len(matches) < len(wanted):
        if path.suffix == ".safetensors":
            ordered: dict[str, torch.Tensor] = {}
            reason = "a .safetensors file says nothing, since it keeps none"
        else:
            ordered, reason = _by_order(network, file, classifier)
        if ordered:
            model.load_state_dict(ordered, strict=False)
            names = f"{len(ordered)} of {len(wanted)} tensors"
            return f"weights of {path.name}: {names} matched by their order, since names differ; the classifier is new"
        here, there = (_first([f"{k} {_shape(v)}" for k, v in s.items() if k not in matches]) for s in (wanted, given))
        raise UserError(
            f"{str(path)!r} is not of this architecture: by name it fits {len(matches)} of {len(wanted)} tensors "
            f"(wanted: {here}; in the file: {there}), and by order {reason}. Set model.name to the timm model that the "
            "weights were trained with."
        )
    model.load_state_dict(matches, strict=False)
    others = [k for k in given if k in wanted and k not in matches]
    rest = {
        "not in the file": [k for k in wanted if k not in given],
        "not in the model": [k for k in given if k not in wanted],
        "of another shape": [f"{k} {_shape(given[k])}, not {_shape(wanted[k])}" for k in others],
    }
    note = f"weights of {path.name}: {len(matches)} of {len(wanted)} tensors matched, the classifier is new"
    return "; ".join([note, *(f"{len(names)} {what} ({_first(names)})" for what, names in rest.items() if names)])


def _by_order(
    network: dict[str, torch.Tensor], file: dict[str, torch.Tensor], classifier: set[str]
) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a file under the names of a network, if all agree in order; else nothing, and why.

    They agree in number, shape and role, which the last part of a name tells (`weight`, `bias`, `running_mean`). A
    linear layer and a convolution of one pixel are the same. The classifier may be missing in the file, or have another
    number of outputs.
    """
    names = list(network) if len(file) == len(network) else [name for name in network if name not in classifier]
    if len(file) != len(names):
        return {}, f"the file has {len(file)} tensors where the network has {len(network)}"
    for number, (name, (other, tensor)) in enumerate(zip(names, file.items(), strict=True), 1):
        own, first = network[name], int(name in classifier)
        here, there = (_without_ones(shape[first:]) for shape in (own.shape, tensor.shape))
        if here != there or _role(name) != _role(other):
            return {}, f"tensor {number} is {other} {_shape(tensor)} where the network has {name} {_shape(own)}"
    pairs = zip(names, file.values(), strict=True)
    return {name: tensor.reshape(network[name].shape) for name, tensor in pairs if name not in classifier}, ""


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the ones at its end."""
    return _without_ones(shape[:-1]) if shape and shape[-1] == 1 else tuple(shape)


def _role(name: str) -> str:
    """What a tensor is to its layer, as far as its name tells: `weight`, `bias`, `running_mean`, `running_var`."""
    last = name.rpartition(".")[2]
    return last if last in ("weight", "bias", "running_mean", "running_var") else ""


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read the state dict of a file, out of its wrapping and without the prefixes of wrappers and parallel training.

    Raises:
        UserError: it is no file, cannot be read without unpickling, or holds no tensors with names.
    """
    if not path.is_file():
        raise UserError(f"model.weights={str(path)!r} is no file: give the path of a .pt, .pth or .safetensors file.")
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise UserError(f"model.weights={str(path)!r} ends in {path.suffix!r}: .pt, .pth and .safetensors can be read.")
    try:
        plain = path.suffix == ".safetensors"
        content: Any = load_file(path) if plain else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file fails in any of a dozen ways
        raise _unreadable(path, error) from error
    named: dict[Any, Any] = content if isinstance(content, dict) else {}
    for _ in range(3):
        named = next((named[key] for key in WRAPPERS if isinstance(named.get(key), dict)), named)
    state = {without_prefix(str(k)): v for k, v in named.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise UserError(f"{str(path)!r} holds no tensors with names, but a {type(content).__name__}.")
    return state


def _unreadable(path: Path, error: Exception) -> UserError:
    """Why a file cannot be read: it holds more than tensors, or it is damaged."""
    name, state = repr(str(path)), f"{path.stem}_state.pt"
    if not (foreign := re.search(r"Unsupported (?:global|class).*?([\w.]+\.\w+)", str(error), re.DOTALL)):
        return UserError(f"{name} ({path.stat().st_size:,} bytes) is cut short or not in this format: fetch it again.")
    convert = CONVERT.format(source=str(path), target=state)
    return UserError(
        f"{name} is no state dict but a pickle with a {foreign[1]} in it, which runs code when it is loaded. If you "
        f"trust where it comes from, convert it there with the packages it was made with:{convert}\nand set "
        f"model.weights to {state}."
    )


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "nothing"
