"""Export with Optimum: float32 ONNX, and INT8 by static quantisation calibrated on training images.

`model.onnx` and `model_int8.onnx` lie in the model folder's `onnx/`, and share its `config.json`; transformers.js uses
the same names. Height and width are fixed, the batch is free: with a fixed size, padding is folded into constants.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from fer_hf.errors import FerError
from fer_hf.images.batches import FaceDataset
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.models.classifier import FLOAT, load_onnx, require_optimum
from fer_hf.models.load import load_model

TOLERANCE = 1e-4


def export_onnx(model_folder: Path, check: torch.Tensor) -> dict[str, Any]:
    """Write `onnx/model.onnx` and hold its logits against PyTorch's on `check`, `pixel_values` `(B, 3, H, W)`.

    Returns file, megabytes and the largest difference of the logits. Raises `FerError` above 1e-4.
    """
    require_optimum()
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import ViTOnnxConfig

    loaded = load_model(str(model_folder))
    # `main_export` refuses classes from outside transformers, and calls the input of timm's `x`; for all other image
    # classifiers its settings are those of the ViT.
    settings = ViTOnnxConfig(loaded.model.config, task="image-classification")
    height, width = check.shape[-2:]
    with tempfile.TemporaryDirectory(dir=model_folder, prefix=".") as aside:
        shapes = {"batch_size": 2, "height": height, "width": width}
        export(loaded.model, settings, Path(aside) / FLOAT, input_shapes=shapes)
        target = model_folder / "onnx" / FLOAT
        target.parent.mkdir(exist_ok=True)
        _fix_size(Path(aside) / FLOAT, height, width)
        shutil.move(str(Path(aside) / FLOAT), target)
    with torch.inference_mode():
        expected = loaded.model.eval()(pixel_values=check).logits
    difference = float((load_onnx(model_folder, FLOAT)(pixel_values=check).logits - expected).abs().max())
    if difference > TOLERANCE:
        target.unlink()
        raise FerError(f"The ONNX model differs from PyTorch by {difference:.1e} in its logits; it was removed.")
    return {"file": f"onnx/{FLOAT}", "megabytes": _megabytes(target), "max_logit_difference": difference}


def sample(dataset: Dataset, images: int, seed: int = 0) -> Dataset:
    """`images` random rows of a dataset (all, when there are fewer)."""
    return dataset.shuffle(seed=seed).select(range(min(images, len(dataset))))


def pixel_values(dataset: Dataset, spec: ImageSpec) -> torch.Tensor:
    """All images of a small dataset as the model sees them: float32 `(N, 3, H, W)`."""
    return EvalTransform(spec)(FaceDataset(dataset).__getitems__(range(len(dataset)))["images"])


def _fix_size(path: Path, height: int, width: int) -> None:
    """Write the height and width of the input into the graph."""
    import onnx

    model = onnx.load(path)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    shape[2].dim_value, shape[3].dim_value = height, width
    onnx.save(model, path)


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 3)
