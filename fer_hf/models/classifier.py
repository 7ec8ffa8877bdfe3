"""A trained classifier, PyTorch or ONNX behind one call: labels and scores for people, logits for whoever counts."""

import importlib.util
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.utils import cached_file

from fer_hf.console import track
from fer_hf.data.decode import Array, decode
from fer_hf.errors import UserError
from fer_hf.images.batches import FaceDataset, as_is, to_uint8
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform, views
from fer_hf.machine import library_bars_off
from fer_hf.models.load import emotions_of, load_model, load_processor
from fer_hf.models.resolve import Source, load_config, resolve
from fer_hf.runs.folder import ONNX_FILES, Run

Format = Literal["pytorch", "onnx", "int8"]


@library_bars_off()
def load_classifier(
    source: str | Path | Run, format: Format = "pytorch", device: str | torch.device | None = None
) -> "Classifier":
    """Load a trained classifier of emotions.

    Args:
        source: a run, a run folder, a model folder or a Hub id.
        format: which file of the model: `"pytorch"`, or `"onnx"` and `"int8"` of an exported one.
        device: where a PyTorch model runs, such as `"cuda"`; the CPU when None, where ONNX Runtime always runs.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        UserError: there is no such model or file, its labels are no emotions, or `format` is unknown.

    Example:
        `load_classifier("someone/faces", format="int8")("face.jpg")`
    """
    if format not in ("pytorch", *ONNX_FILES):
        raise UserError(f"format={format!r} is unknown: pytorch, onnx and int8 are the files of a model.")
    place = resolve(source)
    if format == "pytorch":
        loaded = load_model(source)
        model = cast(Any, loaded.model).to(device or "cpu")
        return Classifier(model, loaded.processor, loaded.label_names, format, place.name)
    if torch.device(device or "cpu").type != "cpu":
        raise UserError(f"device={str(device)!r}: ONNX Runtime runs on the CPU here, leave it out.")
    return _load_onnx(place, format)


def _load_onnx(source: Source, format: str) -> "Classifier":
    """An exported file in a local model folder or on the Hub, as a model of Optimum."""
    require_optimum()
    from onnxruntime import InferenceSession
    from optimum.onnxruntime import ORTModelForImageClassification

    file = f"onnx/{ONNX_FILES[format]}"
    try:
        config = load_config(source)
        path = str(source.folder / file) if source.folder else str(cached_file(source.name, file))
        if not Path(path).is_file():
            raise FileNotFoundError("there is no such file.")
        processor = load_processor(source, config)
        session = InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's have no common class but this one
        remedy = f"A run gets it by `fer-hf export RUN{' --int8' if format == 'int8' else ''}`."
        raise UserError(f"{file} of {source.name!r} could not be loaded: {error} {remedy}") from error
    # Not by `from_pretrained`, which reads the config of a timm model by another class, and warns of it.
    model = ORTModelForImageClassification(config=config, session=session)
    return Classifier(model, processor, emotions_of(source, config), format, source.name)


def require_optimum() -> None:
    """Raise `UserError` with the way to install what exporting needs, when it is missing.

    ONNX Runtime 1.29 and newer report each session, with the name of the model's file, to Microsoft; that is switched
    off, for this process.
    """
    if importlib.util.find_spec("optimum") is None or importlib.util.find_spec("onnxruntime") is None:
        raise UserError(
            "Exporting needs Optimum and ONNX Runtime: pip install 'fer_hf[onnx]', or '.[onnx]' in a checkout (it "
            "brings transformers 4.57). A recipe runs without them with export.onnx=false export.int8=false."
        )
    asked = "ORT_DISABLE_TELEMETRY" in os.environ
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # starts it, so that the variable has been read
    if not asked:
        del os.environ["ORT_DISABLE_TELEMETRY"]


class Classifier:
    """A classifier of facial expressions; `load_classifier` makes one.

    Called with images, it answers as `transformers.pipeline("image-classification")` does.

    Args:
        model: called as `model(pixel_values=...)`, returns something with `.logits`: a model of transformers, or an
            `ORTModelForImageClassification` of Optimum.
        processor: the image processor that belongs to it.
        label_names: names of the labels in the order of the logits.
        format: `"pytorch"`, `"onnx"` or `"int8"`.
        source: the folder or Hub id it was loaded from.

    Example:
        >>> from fer_hf.models.load import load_model
        >>> loaded = load_model("test_resnet", ("happy", "sad"), pretrained=False, image_size=32)
        >>> classifier = Classifier(loaded.model, loaded.processor, loaded.label_names)
        >>> face = np.zeros((48, 48), dtype=np.uint8)
        >>> sorted(row["label"] for row in classifier(face))
        ['happy', 'sad']
        >>> len(classifier([face, face, face], top_k=1))
        3
    """

    def __init__(
        self, model: Any, processor: Any, label_names: Sequence[str], format: str = "pytorch", source: str = ""
    ):
        self.model, self.processor, self.format, self.source = model, processor, format, source
        if isinstance(model, torch.nn.Module):
            model.eval()
        self.label_names = tuple(label_names)
        self.spec = ImageSpec.from_processor(processor)
        """How the images are resized, cropped and normalised."""
        self._transform = EvalTransform(self.spec)

    def __repr__(self) -> str:
        return f"Classifier({self.source!r}, format={self.format!r}, device={str(self.device)!r})"

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch.device(self.model.device)

    def __call__(self, images: Any, top_k: int = 5, batch_size: int = 64) -> list[Any]:
        """Labels and probabilities of one image, or of each of several.

        Args:
            images: a path, a PIL image, a uint8 array `(H, W)` or `(H, W, 3)`, or a uint8 tensor `(C, H, W)`, of one or
                three channels. Several are a list of them, an array `(B, H, W, 3)` or a tensor `(B, C, H, W)`.
            top_k: how many labels, the most probable ones; all, when there are fewer.
            batch_size: images that are in memory at once.

        Returns:
            `[{"label": "happy", "score": 0.97}, ...]` of one image, the most probable first; a list of such lists of
            several.

        Raises:
            UserError: a file cannot be read as an image, or an array has another shape or type.
        """
        several = isinstance(images, list | tuple) or (isinstance(images, np.ndarray | Tensor) and images.ndim == 4)
        rows = images if several else [images]
        answers: list[Any] = []
        for start in range(0, len(rows), batch_size):
            logits = self.logits([_as_uint8(image) for image in rows[start : start + batch_size]])
            for scores in logits.softmax(dim=-1).tolist():
                ranked = sorted(zip(scores, self.label_names, strict=True), key=lambda pair: -pair[0])
                answers.append([{"label": label, "score": score} for score, label in ranked[:top_k]])
        return answers if several else answers[0]

    @torch.inference_mode()
    def logits(self, images: Tensor | Sequence[Tensor], tta: str = "none") -> Tensor:
        """Logits `(B, K)` float32 of images, on the classifier's device.

        With test-time augmentation they are the logarithm of the mean probability over the `views`, each resized and
        cropped as any image: their softmax is that mean.

        Args:
            images: uint8 `(B, C, H, W)`, or a list of `(C, H, W)`.
            tta: `"none"`, `"flip"` or `"ten_crop"`.
        """
        batch = images.to(self.device) if isinstance(images, Tensor) else [image.to(self.device) for image in images]
        parts = [self.model(pixel_values=self._transform(view)).logits.float() for view in views(batch, tta)]
        return parts[0] if tta == "none" else torch.stack(parts).log_softmax(-1).logsumexp(0) - math.log(len(parts))

    def predict(
        self,
        dataset: Dataset,
        batch_size: int = 128,
        accelerator: Accelerator | None = None,
        tta: str = "none",
        pixels: Array | Tensor | None = None,
    ) -> np.ndarray:
        """Logits `(N, K)` float32 of a dataset with `image` and `label`, in its order.

        Args:
            dataset: the images; their labels are not looked at.
            batch_size: images per step.
            accelerator: shares the work among processes, each of which gets all logits, and says on which device a
                PyTorch model runs. None: this process alone, where the classifier is.
            tta: test-time augmentation, as in `logits`.
            pixels: the images, decoded, uint8 `(N, C, H, W)`; None: decoded when their turn comes.
        """
        loader: Any = DataLoader(FaceDataset(dataset, pixels=pixels), batch_size=batch_size, collate_fn=as_is)
        if accelerator:
            loader = accelerator.prepare_data_loader(loader)
            if self.format == "pytorch":
                self.model.to(accelerator.device)
        rows = []
        for batch in track(loader, "predicting", quiet=bool(accelerator and not accelerator.is_main_process)):
            logits = self.logits(batch["images"], tta)
            if accelerator:
                logits = accelerator.gather_for_metrics(logits.to(accelerator.device))
            rows.append(logits.cpu().numpy())
        return np.concatenate(rows)


def _as_uint8(image: Any) -> Tensor:
    """One image of any kind as uint8 `(C, H, W)`."""
    if isinstance(image, str | Path | Image.Image):
        try:
            return to_uint8(decode(image))
        except (ValueError, OSError) as error:
            raise UserError(f"{image} is no picture that can be read: {error}") from error
    pixels = image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        pixels = torch.tensor(image if image.ndim == 3 else image[..., None]).permute(2, 0, 1)
    is_picture = isinstance(pixels, Tensor) and pixels.dtype == torch.uint8 and pixels.ndim == 3 and pixels.numel()
    if is_picture and len(pixels) in (1, 3):
        return pixels
    what = f"{image.dtype} of shape {tuple(image.shape)}" if hasattr(image, "shape") else type(image).__name__
    raise UserError(
        f"{what} is no image: give a path, a PIL image, a uint8 array (H, W) or (H, W, 3), or a uint8 tensor (C, H, W) "
        "of one or three channels; scale other values to 0 ... 255 first."
    )
