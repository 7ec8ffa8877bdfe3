"""Predictions are made once and kept: every figure is computed from the Parquet file that is written here."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as tv

from fer_hf.evaluation.metrics import ExpressionMetric
from fer_hf.images import EvalTransform, FaceDataset, ImageSpec, as_is
from fer_hf.progress import track


def views(images: Tensor | list[Tensor], tta: str) -> list[Any]:
    """What a model sees of uint8 `images` `(B, C, H, W)`, or of a list of `(C, H, W)`: whole batches, of the same kind.

    `none`: the images. `flip`: the images and their mirror images. `ten_crop`: the corners and the centre, of 7/8 of
    height and width, and the same of the mirror images (Krizhevsky et al., 2012, section 4.1: 224 of 256 pixels).
    """
    if not isinstance(images, Tensor):
        return [list(view) for view in zip(*(views(image, tta) for image in images), strict=True)]
    if tta == "ten_crop":
        return list(tv.ten_crop(images, [round(pixels * 7 / 8) for pixels in images.shape[-2:]]))
    return [images, tv.horizontal_flip(images)] if tta == "flip" else [images]


@torch.inference_mode()
def predict_logits(
    model: Callable[..., Any],
    dataset: Dataset,
    spec: ImageSpec,
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
    tta: str = "none",
) -> np.ndarray:
    """Logits `(N, C)` float32 of a dataset with `image` and `label`, in its order.

    With test-time augmentation they are the logarithm of the mean probability over the `views`, each resized and
    cropped as any image: their softmax is that mean.

    Args:
        model: called as `model(pixel_values=...)`, returns something with `.logits`: a torch module, or an ONNX Runtime
            model of Optimum.
        accelerator: shares the work among processes; every one of them gets all logits. None: this process alone.
    """
    loader: Any = DataLoader(FaceDataset(dataset), batch_size=batch_size, collate_fn=as_is)
    device = torch.device("cpu")
    if isinstance(model, torch.nn.Module):
        model.eval()
        device = accelerator.device if accelerator else next(model.parameters()).device
        model.to(device)
    if accelerator:
        loader = accelerator.prepare_data_loader(loader)
    transform = EvalTransform(spec)
    rows = []
    for batch in track(loader, "predicting", quiet=bool(accelerator and not accelerator.is_main_process)):
        images = batch["images"]
        images = images.to(device) if isinstance(images, torch.Tensor) else [image.to(device) for image in images]
        seen = [torch.as_tensor(model(pixel_values=transform(view)).logits).float() for view in views(images, tta)]
        logits = seen[0] if tta == "none" else torch.stack(seen).log_softmax(-1).logsumexp(0) - math.log(len(seen))
        rows.append((accelerator.gather_for_metrics(logits) if accelerator else logits).cpu().numpy())
    return np.concatenate(rows)


def write_predictions(path: Path, dataset: Dataset, logits: np.ndarray) -> None:
    """Parquet with `id`, `label` (a ClassLabel, so that names travel along), `logits`, and any attribute columns."""
    label: ClassLabel = dataset.features["label"]
    columns = dataset.remove_columns("image").to_dict() | {"logits": logits.tolist()}
    others = {name: feature for name, feature in dataset.features.items() if name != "image"}
    features = Features(others | {"label": label, "logits": Sequence(Value("float32"), length=len(label.names))})
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    Dataset.from_dict(columns, features=features).to_parquet(aside)
    aside.replace(path)


def evaluate_split(
    model: Callable[..., Any],
    dataset: Dataset,
    spec: ImageSpec,
    path: Path,
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
    tta: str = "none",
) -> dict[str, Any]:
    """Predict, write the predictions to `path` (the main process does), and return all figures."""
    logits = predict_logits(model, dataset, spec, batch_size, accelerator, tta)
    if accelerator is None or accelerator.is_main_process:
        write_predictions(path, dataset, logits)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return metrics_from(path)


def metrics_from(path: Path) -> dict[str, Any]:
    """All figures of a predictions file (see `classification_metrics`)."""
    predictions = Dataset(pq.read_table(path)).with_format("numpy")
    metric = ExpressionMetric(predictions.features["label"].names)
    return metric.compute(predictions=predictions["logits"][:], references=predictions["label"][:])
