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

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = re.compile(r"^(module\.|timm_model\.)+")  # of DataParallel, and of our own model.safetensors
# A line for plain torch; both a whole model and a training checkpoint become a state dict.
CONVERT = """
    import torch; loaded = torch.load({source!r}, map_location="cpu", weights_only=False)
    torch.save(getattr(loaded, "state_dict", lambda: loaded["state_dict"])(), {target!r})"""


def fill(model: nn.Module, head: nn.Module, path: Path) -> str:
    """Copy the tensors of a `.pt`, `.pth` or `.safetensors` file into `model`, all but its classifier `head`.

    Returns one line that says which tensors matched. Raises `UserError` when the file cannot be read without
    unpickling, or fills fewer than half of the model's tensors.
    """
    classifier = {id(p) for p in head.parameters()}
    left_out = {name for name, p in model.named_parameters() if id(p) in classifier}
    # Counters and position indices, the only integers, follow from the architecture: versions of timm differ in them.
    own = {k: v for k, v in model.state_dict().items() if v.is_floating_point() and k not in left_out}
    given = {k: v for k, v in read(path).items() if v.is_floating_point() and k not in left_out}
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    missing = [k for k in own if k not in given]
    unexpected = [k for k in given if k not in own]
    ill_shaped = [f"{k} {_shape(v)}, not {_shape(own[k])}" for k, v in given.items() if k in own and k not in fitting]
    if 2 * len(fitting) < len(own):
        raise UserError(
            f"{str(path)!r} is not of this architecture: it fits {len(fitting)} of {len(own)} tensors. "
            f"Wanted: {_first([f'{k} {_shape(own[k])}' for k in own if k not in fitting])}; in the file: "
            f"{_first([f'{k} {_shape(given[k])}' for k in given if k not in fitting])}. Set model.name to the timm "
            "model that the weights were trained with."
        )
    model.load_state_dict(fitting, strict=False)
    rest = {"not in the file": missing, "not in the model": unexpected, "of another shape": ill_shaped}
    parts = [f"{len(names)} {what} ({_first(names)})" for what, names in rest.items() if names]
    return "; ".join(
        [f"weights of {path.name}: {len(fitting)} of {len(own)} tensors matched, the classifier is new", *parts]
    )


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a file, out of its wrapping and without the prefixes of parallel training."""
    if not path.is_file():
        raise UserError(f"model.weights={str(path)!r} is no file: give the path of a .pt, .pth or .safetensors file.")
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise UserError(f"model.weights={str(path)!r} ends in {path.suffix!r}: .pt, .pth and .safetensors can be read.")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError:
        raise
    except Exception as error:  # a damaged file fails in any of a dozen ways
        if foreign := re.search(r"Unsupported (?:global|class).*?([\w.]+\.\w+)", str(error), re.DOTALL):
            convert = CONVERT.format(source=str(path), target=f"{path.stem}_state.pt")
            raise UserError(
                f"{str(path)!r} is no state dict but a pickle with a {foreign[1]} in it, which runs code when it is "
                f"loaded. If you trust where it comes from, convert it there with the packages it was made with:"
                f"{convert}\nand set model.weights to {path.stem}_state.pt."
            ) from error
        raise UserError(
            f"{str(path)!r} ({path.stat().st_size:,} bytes) is cut short or not in this format: fetch it again."
        ) from error
    named: dict[Any, Any] = content if isinstance(content, dict) else {}
    for _ in range(3):
        named = next((named[key] for key in WRAPPERS if isinstance(named.get(key), dict)), named)
    state = {PREFIXES.sub("", str(k)): v for k, v in named.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise UserError(f"{str(path)!r} holds no tensors with names, but a {type(content).__name__}.")
    return state


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "nothing"
