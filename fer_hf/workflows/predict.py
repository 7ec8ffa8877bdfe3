"""The expression in each picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_hf.models.classifier import Format, load_classifier
from fer_hf.runs.folder import Run

BATCH_SIZE = 64
"""Pictures that are in memory at once."""


def predict(
    model: str | Path | Run, images: Sequence[str | Path], format: Format = "pytorch"
) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """Classify picture files.

    Args:
        model: a run, a run folder, a model folder or a Hub id.
        images: files, each a picture of a face.
        format: `"pytorch"`, `"onnx"` or `"int8"`.

    Yields:
        Each file with `[{"label": ..., "score": ...}, ...]`, all labels, the most probable first.

    Raises:
        UserError: there is no such model, or a file is no picture that can be read.
    """
    classifier = load_classifier(model, format)
    for start in range(0, len(images), BATCH_SIZE):
        part = list(images[start : start + BATCH_SIZE])
        answers = classifier(part, top_k=len(classifier.label_names))
        yield from zip(map(str, part), answers, strict=True)
