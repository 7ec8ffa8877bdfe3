"""Export with Optimum: float32 ONNX, and INT8 by static quantisation calibrated on training images.

`model.onnx` and `model_int8.onnx` lie in the model folder's `onnx/`, and share its `config.json`; transformers.js uses
the same names. Height and width are fixed, the batch is free: with a fixed size, padding is folded into constants.
"""

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset

from fer_hf.errors import FerError, UserError
from fer_hf.images import EvalTransform, FaceDataset, ImageSpec
from fer_hf.models.load import load_model
from fer_hf.progress import track

FLOAT, INT8 = "model.onnx", "model_int8.onnx"
TOLERANCE = 1e-4


def require_optimum() -> None:
    """Raises `UserError` with the way to install what exporting needs."""
    if importlib.util.find_spec("optimum") is None or importlib.util.find_spec("onnxruntime") is None:
        raise UserError(
            "Exporting needs Optimum and ONNX Runtime: pip install 'fer_hf[onnx]', or '.[onnx]' in a checkout (it "
            "brings transformers 4.57). A recipe runs without them with export.onnx=false export.int8=false."
        )


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


def quantise(
    model_folder: Path,
    calibration: Dataset,
    spec: ImageSpec,
    method: Literal["minmax", "entropy", "percentile"] = "minmax",
    batch_size: int = 32,
) -> dict[str, Any]:
    """Write `onnx/model_int8.onnx`: static, QDQ, per channel, calibrated on the images of `calibration`."""
    require_optimum()
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig

    settings = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True)
    settings.reduce_range = not has_vnni()
    if attention := _attention_products(model_folder / "onnx" / FLOAT):
        # Measured on a ViT: with the attention products in INT8, logits correlate 0.36 with float32, without 0.999.
        settings.operators_to_quantize = ["Conv", "Gemm", "MatMul"]
        settings.nodes_to_exclude = attention
    inputs = _calibration_inputs(calibration, spec)
    with tempfile.TemporaryDirectory(dir=model_folder, prefix=".") as aside:
        shutil.copy(model_folder / "config.json", aside)
        quant_pre_process(str(model_folder / "onnx" / FLOAT), str(Path(aside) / FLOAT), skip_symbolic_shape=True)
        quantizer = ORTQuantizer.from_pretrained(aside, file_name=FLOAT)
        make = getattr(AutoCalibrationConfig, "percentiles" if method == "percentile" else method)
        # In parts: histograms keep all activations of what they are given at once.
        for start in range(0, len(inputs), batch_size):
            part = inputs.select(range(start, min(start + batch_size, len(inputs))))
            quantizer.partial_fit(
                part,
                make(part),
                onnx_augmented_model_name=str(Path(aside) / "augmented_model.onnx"),
                operators_to_quantize=settings.operators_to_quantize,
                batch_size=batch_size,
            )
        ranges = quantizer.compute_ranges()
        quantizer.quantize(
            quantization_config=settings, calibration_tensors_range=ranges, save_dir=aside, file_suffix="int8"
        )
        target = model_folder / "onnx" / INT8
        shutil.move(str(Path(aside) / INT8), target)
    return {
        "file": f"onnx/{INT8}",
        "megabytes": _megabytes(target),
        "calibration": method,
        "calibration_images": len(calibration),
    }


def load_onnx(model_folder: Path | str, file_name: str = FLOAT) -> Any:
    """An `ORTModelForImageClassification` from a local model folder or the Hub, on the CPU."""
    require_optimum()
    from optimum.onnxruntime import ORTModelForImageClassification

    try:
        return ORTModelForImageClassification.from_pretrained(model_folder, subfolder="onnx", file_name=file_name)
    except (OSError, ValueError) as error:  # which one, depends on where Optimum misses the file
        raise UserError(
            f"onnx/{file_name} of {str(model_folder)!r} could not be loaded: {error} A run gets it by "
            f"`fer-hf export RUN{' --int8' if file_name == INT8 else ''}`."
        ) from error


def sample(dataset: Dataset, images: int, seed: int = 0) -> Dataset:
    """`images` random rows of a dataset (all, when there are fewer)."""
    return dataset.shuffle(seed=seed).select(range(min(images, len(dataset))))


def pixel_values(dataset: Dataset, spec: ImageSpec) -> torch.Tensor:
    """All images of a small dataset as the model sees them: float32 `(N, 3, H, W)`."""
    return EvalTransform(spec)(FaceDataset(dataset).__getitems__(range(len(dataset)))["images"])


def has_vnni() -> bool:
    """Whether this CPU multiplies INT8 without saturating (AVX-512 VNNI, AVX-VNNI, or Arm); True where it is unknown.

    Without it, U8 x S8 products saturate at 16 bits, and weights must leave one bit of their range unused.
    """
    cpu = Path("/proc/cpuinfo")
    if not cpu.is_file():
        return True
    text = cpu.read_text(encoding="utf-8", errors="replace")
    return "vnni" in text or "flags" not in text


def _calibration_inputs(dataset: Dataset, spec: ImageSpec) -> Dataset:
    """`pixel_values` as a dataset, which is what `ORTQuantizer` reads."""
    parts = [
        pixel_values(dataset.select([i]), spec)[0].numpy() for i in track(range(len(dataset)), "calibration images")
    ]
    return Dataset.from_dict({"pixel_values": np.stack(parts)}).with_format("numpy")


def _attention_products(path: Path) -> list[str]:
    """Names of the matrix products of an ONNX model in which neither factor is a weight."""
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]


def _fix_size(path: Path, height: int, width: int) -> None:
    """Write the height and width of the input into the graph."""
    import onnx

    model = onnx.load(path)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    shape[2].dim_value, shape[3].dim_value = height, width
    onnx.save(model, path)


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 3)
