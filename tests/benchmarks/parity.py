"""Does the fast path cost accuracy? The same training on it and in the usual way, several seeds.

    python -m tests.benchmarks.parity SOURCE [--model resnet10t] [--size 48] [--fraction 0.2] [--epochs 6] [--seeds 3]

- ours: `fer_hf.training.fit`: images decoded once, augmented in batches, channels_last.
- stock: the Trainer, `set_transform`, torchvision's transforms of one PIL image at a time (see `training.py`).

Random weights, the same images, augmentation, optimiser and schedule. Prints the validation accuracy after the last
epoch and the seconds of each training, evaluation included.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from transformers import set_seed

from fer_hf.console import quiet_libraries
from fer_hf.machine import environment
from fer_hf.recipe.load import validate_recipe
from fer_hf.runs.folder import Run
from fer_hf.training.fit import fit
from fer_hf.workflows.faces import recipe_faces
from tests.benchmarks.training import stock_trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--fraction", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    quiet_libraries()
    results: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
    for seed in range(asked.seeds):
        recipe = validate_recipe(
            {
                "model": {"name": asked.model, "pretrained": False, "image_size": asked.size},
                "data": {"source": asked.source, "fraction": asked.fraction},
                "train": {
                    "num_train_epochs": asked.epochs,
                    "per_device_train_batch_size": 64,
                    "learning_rate": 2e-3,
                    "weight_decay": 0.05,
                    "seed": seed,
                    "save_steps": 10**6,
                    "report_to": [],
                },
            }
        )
        for name, training in (("ours", ours), ("stock", stock)):
            with tempfile.TemporaryDirectory() as folder:
                set_seed(seed)
                began = time.perf_counter()
                accuracy = training(recipe, Path(folder))
            results[name].append((accuracy, time.perf_counter() - began))
            print(f"{name:6} seed {seed}: {accuracy:.1%} in {results[name][-1][1]:.0f} s", flush=True)
    for name, runs in results.items():
        accuracies = [accuracy for accuracy, _ in runs]
        spread = stdev(accuracies) if len(runs) > 1 else 0.0
        print(f"{name:6} {mean(accuracies):.1%} +- {spread:.1%} in {mean(seconds for _, seconds in runs):.0f} s")
    print(json.dumps({**vars(asked), "results": results, **environment()}))


def ours(recipe: Any, folder: Path) -> float:
    run = Run(folder)
    run.checkpoints.mkdir(parents=True)
    fit(recipe, recipe_faces(recipe).splits, run)
    return float(run.metrics.training.history[-1].accuracy)


def stock(recipe: Any, folder: Path) -> float:
    train = recipe.train
    trainer = stock_trainer(
        recipe,
        str(folder),
        num_train_epochs=train.num_train_epochs,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        lr_scheduler_type=train.lr_scheduler_type,
        seed=train.seed,
        eval_strategy="epoch",
    )
    steps = math.ceil(len(trainer.train_dataset) / train.per_device_train_batch_size) * train.num_train_epochs
    trainer.args.warmup_steps = math.ceil(train.warmup_ratio * steps)
    trainer.train()
    return float(
        next(entry["eval_accuracy"] for entry in reversed(trainer.state.log_history) if "eval_accuracy" in entry)
    )


if __name__ == "__main__":
    main()
