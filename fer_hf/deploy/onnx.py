"""Export to float32 ONNX with Optimum, and check what came out against PyTorch.

The file lies in the model folder's `onnx/`, and shares its `config.json`; transformers.js reads the same names. Height
and width are fixed, the batch is free: with a fixed size, padding is folded into constants.
"""

from pathlib import Path

import torch
from datasets import Dataset

from fer_hf.errors import FerError
from fer_hf.files import written_whole
from fer_hf.images.batches import FaceDataset
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform
from fer_hf.models.classifier import Classifier, load_classifier, require_optimum
from fer_hf.runs.folder import ONNX_FILES
from fer_hf.runs.records import ExportedFile

TOLERANCE = 1e-4
"""Largest difference of a logit between ONNX Runtime and PyTorch."""


def export_onnx(classifier: Classifier, folder: Path, check: torch.Tensor) -> ExportedFile:
    """Write `onnx/model.onnx` into a model folder.

    Args:
        classifier: the PyTorch model.
        folder: its folder.
        check: `pixel_values` `(B, 3, H, W)`, on which both networks must give the same logits.

    Raises:
        UserError: Optimum or ONNX Runtime is not installed.
        FerError: a logit differs by more than 1e-4; the file is removed.
    """
    require_optimum()
    import onnx
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import ViTOnnxConfig

    # `main_export` refuses classes from outside transformers, and calls the input of timm's `x`; for all other image
    # classifiers its settings are those of the ViT.
    classifier.model.to("cpu")  # an evaluation may have left it on a GPU
    settings = ViTOnnxConfig(classifier.model.config, task="image-classification")
    height, width = check.shape[-2:]
    target = folder / "onnx" / ONNX_FILES["onnx"]
    target.parent.mkdir(exist_ok=True)
    with written_whole(target) as file:
        export(classifier.model, settings, file, input_shapes={"batch_size": 2, "height": height, "width": width})
        network = onnx.load(file)
        shape = network.graph.input[0].type.tensor_type.shape.dim
        shape[2].dim_value, shape[3].dim_value = height, width
        onnx.save(network, file)
    with torch.inference_mode():
        expected = classifier.model.eval()(pixel_values=check).logits
    logits = load_classifier(folder, "onnx").model(pixel_values=check).logits
    difference = float((logits - expected).abs().max())
    if difference > TOLERANCE:
        target.unlink()
        raise FerError(f"The ONNX model differs from PyTorch by {difference:.1e} in its logits; it was removed.")
    return ExportedFile(f"onnx/{target.name}", megabytes(target), max_logit_difference=difference)


def sample(dataset: Dataset, images: int, seed: int = 0) -> Dataset:
    """Random rows of a dataset: so many, or all when there are fewer."""
    return dataset.shuffle(seed=seed).select(range(min(images, len(dataset))))


def pixel_values(dataset: Dataset, spec: ImageSpec) -> torch.Tensor:
    """All images of a small dataset as the model sees them: float32 `(N, 3, H, W)`."""
    return EvalTransform(spec)(FaceDataset(dataset).__getitems__(range(len(dataset)))["images"])


def megabytes(path: Path) -> float:
    """Size of a file in units of 1,000,000 bytes."""
    return round(path.stat().st_size / 1e6, 3)
