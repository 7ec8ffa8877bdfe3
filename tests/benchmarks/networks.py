"""Which networks of timm and transformers train, save, load again and name their labels; a row of a csv for each.

    python -m tests.benchmarks.networks [NAME ...] [--output networks.csv] [--seconds 60] [--gigabytes 6]

A name is one of timm's, or `transformers:` and the type of a model; without names all are tried. Each network, random
and as small as it comes, runs in a process of its own: a step of training by a recipe, the checks before it, an
evaluation, then predictions by `load_classifier` and by `pipeline`, and once more with the labels in another order.
Networks that the csv has already are passed over.
"""

import argparse
import csv
import os
import resource
import signal
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import timm
import torch
import transformers
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING as MAPPING

from fer_hf.console import quiet_libraries
from fer_hf.data.readers import toy
from fer_hf.errors import UserError
from fer_hf.models.classifier import load_classifier
from fer_hf.models.load import load_model
from fer_hf.models.network import heads
from fer_hf.recipe.load import validate_recipe
from fer_hf.runs.folder import Run
from fer_hf.training.fit import fit

LABELS = ("happy", "sad")
SIZE = 96
"""Edge of the images for networks that take any."""
SMALL = {"num_hidden_layers": 2, "num_blocks": 2, "num_self_attends_per_block": 1}
"""Settings of transformers that make a network small, where it has them and still can be made."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--output", type=Path, default=Path("networks.csv"))
    parser.add_argument("--seconds", type=int, default=60, help="Time on the processor for each network.")
    parser.add_argument("--gigabytes", type=float, default=6, help="Memory for each network.")
    asked = parser.parse_args()
    quiet_libraries()
    kinds = sorted({config.model_type for config in MAPPING} - {"timm_wrapper", "emotion_attention"})
    names = asked.names or [*(f"transformers:{kind}" for kind in kinds), *timm.list_models()]
    known = {row["network"] for row in _rows(asked.output)}
    if not known:
        asked.output.write_text("network,result,reason,heads,million_parameters,seconds\n")
    splits = toy.load(train=2, validation=1, test=1, size=48)
    splits = splits.filter(lambda row: row["label"] in (3, 4)).map(_as_two_labels, features=_features(splits))
    for name in (name for name in names if name not in known):
        row = _apart(name, splits, asked.seconds, asked.gigabytes)
        with open(asked.output, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
    results = [row["result"] for row in _rows(asked.output)]
    print(", ".join(f"{results.count(result)} {result}" for result in sorted(set(results))))


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []


def _features(splits: Any) -> Any:
    features = splits["train"].features.copy()
    features["label"] = type(features["label"])(names=list(LABELS))
    return features


def _as_two_labels(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"label": row["label"] - 3}


def _apart(name: str, splits: Any, seconds: int, gigabytes: float) -> list[Any]:
    """The row of a network, tried in a process of its own."""
    began, reader, writer = time.monotonic(), *os.pipe()
    if (child := os.fork()) == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        most = psutil.Process().memory_info().vms + int(gigabytes * 2**30)  # beyond what the libraries take
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with tempfile.TemporaryDirectory() as folder:
            result = _examined(name, splits, Path(folder))
        os.write(writer, "\t".join(map(str, result)).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = pipe.read().decode(errors="replace").split("\t")
    _, status = os.waitpid(child, 0)
    if len(found) < 4 and os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGSEGV, signal.SIGABRT):
        found = ["failed", f"the process died of {signal.Signals(os.WTERMSIG(status)).name}", "", ""]
    elif len(found) < 4:
        found = ["too large", f"more than {seconds} s or {gigabytes} GB", "", ""]
    return [name, *found, f"{time.monotonic() - began:.0f}"]


def _examined(name: str, splits: Any, folder: Path) -> tuple[Any, ...]:
    """Result, reason, number of classifiers and of parameters of one network."""
    try:
        return "passed", "", *_tried(name, splits, folder)
    except MemoryError:
        return ()
    except UserError as error:
        return "refused", _line(error), "", ""
    except ImportError as error:
        return "not tried", _line(error), "", ""
    except Exception as error:
        if "allocate memory" in str(error):
            return ()
        traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return "failed", f"{type(error).__name__} at {place}: {_line(error)}", "", ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _tried(name: str, splits: Any, folder: Path) -> tuple[int, str]:
    """Train and use a network; returns the number of its classifiers, and its millions of parameters."""
    model: dict[str, Any] = {"name": name, "pretrained": False}
    kind = name.removeprefix("transformers:")
    if kind != name:
        _save_random(kind, folder / "random")
        model = {"name": str(folder / "random")}
    elif not (timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).fixed_input_size:
        model["image_size"] = max(SIZE, *(timm.get_pretrained_cfg(name).min_input_size or (0,)))
    train = {"max_steps": 1, "per_device_train_batch_size": 4, "optim": "sgd", "momentum": 0, "report_to": []}
    run = Run(folder / "run")
    run.checkpoints.mkdir(parents=True)
    fit(validate_recipe({"model": model, "train": train | {"num_train_epochs": 1}}), splits, run)
    image = splits["test"][0]["image"]
    classifier = load_classifier(run.model)
    ours = {row["label"]: row["score"] for row in classifier(image)}
    pipe = transformers.pipeline("image-classification", model=str(run.model))
    theirs = {row["label"]: row["score"] for row in pipe(image)}
    turned, pixels = load_model(run.model, LABELS[::-1]), torch.randn(2, 3, *classifier.spec.size)
    with torch.no_grad():
        answers = [m.eval()(pixel_values=pixels).logits.numpy() for m in (classifier.model, turned.model)]
    np.testing.assert_allclose(answers[0], answers[1][:, ::-1], atol=1e-6)
    assert ours.keys() == theirs.keys() == set(LABELS), theirs
    assert abs(ours["happy"] - theirs["happy"]) < 0.02, f"pipeline says {theirs}, load_classifier {ours}"
    return len(heads(classifier.model)), f"{classifier.model.num_parameters() / 1e6:.1f}"


def _save_random(kind: str, folder: Path) -> None:
    """A random model of transformers with an image processor; small, if it can be made small."""
    default = transformers.AutoConfig.for_model(kind)
    small = {key: value for key, value in SMALL.items() if hasattr(default, key)}
    small |= {"depths": [1] * len(default.depths)} if isinstance(getattr(default, "depths", None), list) else {}
    for settings in (small, {}):
        try:
            config = transformers.AutoConfig.for_model(kind, **settings)
            kinds = MAPPING[type(config)]  # of several, such as DeiT's, the one with a teacher comes last
            model = (kinds[-1] if isinstance(kinds, tuple) else kinds)(config)
            model.save_pretrained(folder)
            break
        except Exception as error:
            if not settings:
                raise ImportError(f"no random model: {_line(error)}") from error
    known = IMAGE_PROCESSOR_MAPPING.get(type(config), None) or (transformers.ViTImageProcessor,)
    processors = known.values() if isinstance(known, dict) else known
    processor = next(p for p in reversed([*processors]) if p)()
    size = getattr(config, "image_size", None) or getattr(getattr(config, "vision_config", None), "image_size", None)
    if isinstance(size, int) and "height" in (processor.size or {}):
        processor.size = {"height": size, "width": size}
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
