"""Training speed: ours, the usual way, and the network alone, side by side.

    python -m tests.benchmarks.training SOURCE [KEY=VALUE ...] [--model resnet18] [--size 48] [--batch 64] [--steps 40]

- ours: the recipe's own path, from `fer_hf.training.build`, without callbacks. `KEY=VALUE`, of `train` or `augment`,
  changes the recipe, for the others as far as they know the key: `train.torch_compile=true` and
  `train.channels_last=false` hold for the ceilings too. `--vary KEY=VALUE` measures ours once more, so changed.
- stock: the Trainer, `set_transform`, torchvision's transforms of one PIL image at a time, the same augmentation,
  without loader workers; with `--workers N`, N of them, which work ahead while the others have their turns.
- ceiling: the network alone. Forward, backward, gradient clipping and fused AdamW on one random batch that lies on the
  device, as the stock way has it, and as ours: in channels_last order and, on a CPU, with memory kept between steps.

Each takes one step in turn, in a new order each round, so what disturbs the machine disturbs all. Figures are medians
over the rounds; ratios are those of one round. With `--profile`, the seconds of each part of `--steps` steps instead,
the stock way first, then ours.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torchvision import transforms as T
from transformers import Trainer, TrainerCallback, TrainingArguments

from fer_hf.console import quiet_libraries
from fer_hf.images.spec import ImageSpec
from fer_hf.machine import environment
from fer_hf.models.load import load_model
from fer_hf.recipe.load import load_recipe
from fer_hf.recipe.schema import Recipe
from fer_hf.runs.folder import Run
from fer_hf.training.build import TrainerBuilder
from fer_hf.training.launch import keep_memory
from fer_hf.training.profile import Profile
from fer_hf.workflows.faces import recipe_faces

WARM_UP = 5
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="Of the recipe.")
    parser.add_argument("--vary", action="append", default=[], metavar="KEY=VALUE", help="Ours once more, so changed.")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--profile", action="store_true", help="Where the time goes, the stock way and ours.")
    asked = parser.parse_intermixed_args()
    if asked.profile:
        return profile(asked)
    times = take_turns(asked)
    width = max(map(len, times))
    print(f"{'':{width}} {'images/s':>9} {'ours / this':>12}")
    ratios = {}
    for name, seconds in times.items():
        ratios[name] = median(b / a for a, b in zip(times["ours"], seconds, strict=True))
        print(f"{name:{width}} {asked.batch / median(seconds):9.1f} {ratios[name]:12.3f}")
    speeds = {name: asked.batch / median(seconds) for name, seconds in times.items()}
    print(json.dumps({**vars(asked), "images_per_second": speeds, "ratios": ratios, **environment()}))


def take_turns(asked: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each step of each way. Every way is a process of its own, and one of them works at a time."""
    context = multiprocessing.get_context("forkserver")  # of which each is a fork that has imported all, and no GPU yet
    context.set_forkserver_preload([__spec__.name])
    pipes, processes = {}, []
    jobs = {name: (name, recipe_of(asked)) for name in WAYS}
    jobs |= {f"ours, {change}": ("ours", recipe_of(asked, change)) for change in asked.vary}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    try:
        for name, job in jobs.items():
            pipes[name], theirs = context.Pipe()
            processes.append(context.Process(target=work, args=(*job, asked, theirs)))
            processes[-1].start()
            theirs.close()  # so that we hear when it has ended
        for number in range(-WARM_UP, asked.steps):
            for name in random.sample(list(jobs), len(jobs)):
                pipes[name].send("go")
                seconds = pipes[name].recv()
                if number >= 0:
                    times[name].append(seconds)
    finally:
        for process in processes:
            process.kill()
    return times


def work(way: str, recipe: Recipe, asked: argparse.Namespace, pipe: Connection) -> None:
    """Take a step whenever told so, and answer with its seconds."""
    began = 0.0

    def tick() -> None:
        nonlocal began
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        pipe.send(time.perf_counter() - began)
        pipe.recv()
        began = time.perf_counter()

    quiet_libraries()
    pipe.recv()
    WAYS[way](recipe, asked, tick)


def recipe_of(asked: argparse.Namespace, *changes: str) -> Recipe:
    content = {
        "model": {"name": asked.model, "pretrained": False, "image_size": asked.size},
        "data": {"source": asked.source},
        "train": {
            "per_device_train_batch_size": asked.batch,
            "max_steps": asked.steps if asked.profile else 10**6,
            "report_to": [],
            "save_steps": 10**6,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.yaml"
        path.write_text(json.dumps(content))
        return load_recipe(path, [*asked.settings, *changes])


def profile(asked: argparse.Namespace) -> None:
    quiet_libraries()
    recipe = recipe_of(asked)
    for name in ("stock", "ours"):
        seconds: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            trainer = TRAINERS[name](recipe, asked, folder)
            trainer.add_callback(Profile(trainer, seconds))
            trainer.train()
        total = sum(seconds.values())
        print(f"{name}: {asked.batch * asked.steps / total:.1f} images/s")
        for part, spent in sorted(seconds.items(), key=lambda item: -item[1]):
            print(f"  {part:14} {spent:7.2f} s {spent / total:6.1%}")


class Tick(TrainerCallback):
    def __init__(self, tick: Callable[[], None]):
        self.tick = tick

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tick()


def training(name: str, recipe: Recipe, asked: argparse.Namespace, tick: Callable[[], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = TRAINERS[name](recipe, asked, folder)
        trainer.callback_handler.callbacks = [Tick(tick)]
        trainer.train()


def our_trainer(recipe: Recipe, asked: argparse.Namespace, folder: str) -> Trainer:
    if not torch.cuda.is_available():
        keep_memory()
    builder = TrainerBuilder(recipe, recipe_faces(recipe).splits, Run(Path(folder)))
    args = builder.arguments(builder.stages[0])
    args.eval_strategy = args.save_strategy = "no"
    return builder.trainer(builder.stages[0], args)


def stock_trainer(recipe: Recipe, folder: str, **settings: Any) -> Trainer:
    """As the examples of transformers do it, with the augmentation of a recipe."""
    loaded = load_model(recipe.model.name, LABELS, pretrained=False, image_size=recipe.model.image_size)
    spec, ours = ImageSpec.from_processor(loaded.processor), recipe.augment
    centre = [T.Resize(spec.resize, spec.interpolation), T.CenterCrop(spec.size)]
    end = [T.ToTensor(), T.Normalize(spec.mean, spec.std)]
    augment = [
        T.RandomResizedCrop(spec.size, scale=ours.crop_scale, ratio=ours.crop_ratio),
        T.RandomHorizontalFlip(ours.horizontal_flip),
        T.RandomRotation(ours.rotation),
        T.ColorJitter(ours.brightness, ours.contrast),
    ]

    args = TrainingArguments(
        folder,
        per_device_train_batch_size=recipe.train.per_device_train_batch_size,
        per_device_eval_batch_size=recipe.train.per_device_eval_batch_size,
        bf16=torch.cuda.is_available() and recipe.train.precision in ("auto", "bf16"),
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **settings,
    )
    splits = recipe_faces(recipe).splits
    return Trainer(
        loaded.model,
        args,
        train_dataset=splits["train"].with_transform(partial(transformed, T.Compose([*augment, *end]))),
        eval_dataset=splits["validation"].with_transform(partial(transformed, T.Compose([*centre, *end]))),
        compute_metrics=lambda result: {"accuracy": float((result.predictions.argmax(1) == result.label_ids).mean())},
    )


def transformed(transform: Callable[[Any], torch.Tensor], rows: dict[str, Any]) -> dict[str, Any]:
    return {"pixel_values": [transform(image.convert("RGB")) for image in rows["image"]], "labels": rows["label"]}


def ceiling(recipe: Recipe, tick: Callable[[], None], ours: bool) -> None:
    loaded = load_model(recipe.model.name, LABELS, pretrained=False, image_size=recipe.model.image_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and ours:
        keep_memory()
    memory_format = torch.channels_last if ours and recipe.train.channels_last else torch.contiguous_format
    model = loaded.model.to(device).to(memory_format=memory_format).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = recipe.train.per_device_train_batch_size
    pixels = torch.randn(batch, 3, recipe.model.image_size, recipe.model.image_size, device=device)
    pixels = pixels.contiguous(memory_format=memory_format)
    labels = torch.randint(len(LABELS), (batch,), device=device)
    bf16 = device.type == "cuda" and recipe.train.precision in ("auto", "bf16")
    if recipe.train.torch_compile:
        model.timm_model.compile(dynamic=False)
    while True:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(pixel_values=pixels).logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        tick()


TRAINERS = {
    "ours": our_trainer,
    "stock": lambda recipe, asked, folder: stock_trainer(
        recipe,
        folder,
        max_steps=recipe.train.passed_through["max_steps"],
        dataloader_num_workers=asked.workers,
        eval_strategy="no",
    ),
}
WAYS = {
    "ours": partial(training, "ours"),
    "stock": partial(training, "stock"),
    "ceiling": lambda recipe, _, tick: ceiling(recipe, tick, ours=False),
    "ceiling, as ours": lambda recipe, _, tick: ceiling(recipe, tick, ours=True),
}


if __name__ == "__main__":
    main()
