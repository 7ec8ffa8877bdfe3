"""What a training step costs with SAM, weight averaging and mixup, beside a plain one.

    python -m tests.benchmarks.techniques [--model resnet10t] [--size 48] [--batch 64] [--rounds 30]

Every technique takes a step in turn, the order changes from round to round, and the figure is the median over the
rounds of each step's time divided by that of the plain step of the same round; so what disturbs a machine disturbs all.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from fer_hf.console import quiet_libraries
from fer_hf.data.readers import toy
from fer_hf.images.batches import FaceDataset
from fer_hf.machine import environment
from fer_hf.recipe.load import validate_recipe
from fer_hf.runs.folder import Run
from fer_hf.training.build import TrainerBuilder

TECHNIQUES = {
    "plain": {},
    "sam": {"train": {"sam_rho": 0.05}},
    "adaptive sam": {"train": {"sam_rho": 0.5, "sam_adaptive": True}},
    "ema": {"train": {"ema_decay": 0.999}},
    "mixup": {"augment": {"mixup": 0.2}},
    "cutmix": {"augment": {"cutmix": 1.0}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    quiet_libraries()
    splits = toy.load(train=-(-asked.batch // 7), validation=1, test=1, size=48)
    batch = FaceDataset(splits["train"]).__getitems__(range(asked.batch))
    steps = {name: _stepper(asked, sections, splits, batch) for name, sections in TECHNIQUES.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(asked.rounds + 3):
        for name in random.sample(sorted(steps), len(steps)):
            began = time.perf_counter()
            steps[name]()
            if number >= 3:  # after a warm-up
                times[name].append(time.perf_counter() - began)
    ratios = {name: median(a / b for a, b in zip(times[name], times["plain"], strict=True)) for name in steps}
    for name, ratio in ratios.items():
        print(f"{name:14} {1000 * median(times[name]):8.1f} ms  {ratio:6.3f} of plain")
    settings = {"model": asked.model, "size": asked.size, "batch": asked.batch, "rounds": asked.rounds}
    print(json.dumps(settings | {"ratios": ratios, "hardware": environment()["hardware"]}))


def _stepper(asked, sections, splits, batch):
    """A function that takes one optimiser step with what the recipe's sections switch on."""
    train = {"per_device_train_batch_size": asked.batch, "report_to": []} | sections.get("train", {})
    model = {"name": asked.model, "pretrained": False, "image_size": asked.size}
    recipe = validate_recipe({**sections, "model": model, "train": train})
    folder = Path(tempfile.mkdtemp())
    builder = TrainerBuilder(recipe, splits, Run(folder))
    trainer = builder.trainer(builder.stages[0], builder.arguments(builder.stages[0]))
    trainer.create_optimizer_and_scheduler(1000)
    trainer.current_gradient_accumulation_steps = 1

    def step() -> None:
        trainer.training_step(trainer.model, dict(batch))
        trainer.optimizer.step()
        if trainer.average:
            trainer.state.global_step += 1
            trainer.average.on_optimizer_step(trainer.args, trainer.state, trainer.control, model=trainer.model)
        trainer.model.zero_grad()
        if trainer.args.device.type == "cuda":
            torch.cuda.synchronize()

    return step


if __name__ == "__main__":
    main()
