"""INT8 with Optimum: static quantisation of the exported ONNX file, calibrated on training images."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from fer_hf.console import track
from fer_hf.deploy.onnx import megabytes, pixel_values
from fer_hf.images.spec import ImageSpec
from fer_hf.machine import has_vnni
from fer_hf.models.classifier import require_optimum
from fer_hf.runs.folder import ONNX_FILES
from fer_hf.runs.records import ExportedFile

BATCH_SIZE = 32
"""Calibration images at once: histograms keep all activations of what they are given."""


def quantise(
    folder: Path,
    calibration: Dataset,
    spec: ImageSpec,
    method: Literal["minmax", "entropy", "percentile"] = "minmax",
) -> ExportedFile:
    """Write `onnx/model_int8.onnx` into a model folder that has `onnx/model.onnx`: static, QDQ, per channel.

    Args:
        folder: the model folder.
        calibration: the images on which the ranges of activations are measured.
        spec: how the model wants its images.
        method: how a range follows from the activations.

    Raises:
        UserError: Optimum or ONNX Runtime is not installed.
    """
    require_optimum()
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    source, target = (folder / "onnx" / ONNX_FILES[format] for format in ("onnx", "int8"))
    settings = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True)
    settings.reduce_range = not has_vnni()
    if attention := _attention_products(source):
        # Measured on a ViT: with the attention products in INT8, logits correlate 0.36 with float32, without 0.999.
        settings.operators_to_quantize = ["Conv", "Gemm", "MatMul"]
        settings.nodes_to_exclude = attention
    inputs = _calibration_inputs(calibration, spec)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as aside:
        shutil.copy(folder / "config.json", aside)
        quant_pre_process(str(source), f"{aside}/{source.name}", skip_symbolic_shape=True)
        quantizer = ORTQuantizer.from_pretrained(aside, file_name=source.name)
        ranges = _ranges(quantizer, inputs, method, settings.operators_to_quantize, Path(aside))
        quantizer.quantize(
            quantization_config=settings, calibration_tensors_range=ranges, save_dir=aside, file_suffix="int8"
        )
        shutil.move(Path(aside) / target.name, target)
    return ExportedFile(
        f"onnx/{target.name}", megabytes(target), calibration=method, calibration_images=len(calibration)
    )


def _ranges(quantizer: Any, inputs: Dataset, method: str, operators: list[str], aside: Path) -> Any:
    """The ranges of all activations, measured in parts."""
    from optimum.onnxruntime.configuration import AutoCalibrationConfig

    make = getattr(AutoCalibrationConfig, "percentiles" if method == "percentile" else method)
    for start in range(0, len(inputs), BATCH_SIZE):
        part = inputs.select(range(start, min(start + BATCH_SIZE, len(inputs))))
        quantizer.partial_fit(
            part,
            make(part),
            onnx_augmented_model_name=str(aside / "augmented_model.onnx"),
            operators_to_quantize=operators,
            batch_size=BATCH_SIZE,
        )
    return quantizer.compute_ranges()


def _calibration_inputs(dataset: Dataset, spec: ImageSpec) -> Dataset:
    """`pixel_values` as a dataset, which is what `ORTQuantizer` reads."""
    images = track(range(len(dataset)), "calibration images")
    parts = [pixel_values(dataset.select([i]), spec)[0].numpy() for i in images]
    return Dataset.from_dict({"pixel_values": np.stack(parts)}).with_format("numpy")


def _attention_products(path: Path) -> list[str]:
    """Names of the matrix products of an ONNX model in which neither factor is a weight."""
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]
