"""A state dict from a file into a timm architecture, such as the VGGFace2 and HSEmotion weights of EfficientNet.

Tensors are matched by timm's own names. The classifier of the file is never taken: its labels are not in there.
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
    wanted, given = (
        {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and name not in classifier}
        for state in (model.state_dict(), read(path))
    )
    matches = {k: v for k, v in given.items() if k in wanted and v.shape == wanted[k].shape}
    if 2 * len(matches) < len(wanted):
        here, there = (_first([f"{k} {_shape(v)}" for k, v in s.items() if k not in matches]) for s in (wanted, given))
        raise UserError(
            f"{str(path)!r} is not of this architecture: it fits {len(matches)} of {len(wanted)} tensors. Wanted: "
            f"{here}; in the file: {there}. Set model.name to the timm model that the weights were trained with."
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


def check_file(path: Path) -> None:
    """Raises `UserError` when there is no file, or one that `read` does not know the kind of."""
    if not path.is_file():
        raise UserError(f"model.weights={str(path)!r} is no file: give the path of a .pt, .pth or .safetensors file.")
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise UserError(f"model.weights={str(path)!r} ends in {path.suffix!r}: .pt, .pth and .safetensors can be read.")


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read the state dict of a file, out of its wrapping and without the prefixes of wrappers and parallel training.

    Raises:
        UserError: it is no file, cannot be read without unpickling, or holds no tensors with names.
    """
    check_file(path)
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
