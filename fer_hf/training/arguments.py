"""The recipe's `train` section as `TrainingArguments` of the installed transformers, 4.57 or 5."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from fer_hf.errors import UserError
from fer_hf.recipe.schema import Recipe, Train
from fer_hf.training.hooks import use_one_device
from fer_hf.training.launch import processes

ONE_CYCLE = "one_cycle"
"""A schedule of ours, which transformers does not have."""
FIELDS = {name for name, field in TrainingArguments.__dataclass_fields__.items() if field.init}
OURS = Train.model_fields.keys() - FIELDS | {
    "auto_find_batch_size",
    "torch_compile",
    "warmup_ratio",
    "dataloader_drop_last",
}
"""Keys of `train` that the Trainer does not know, or that we do in its place."""


def training_arguments(recipe: Recipe, folder: Path, stage: Train | None = None) -> TrainingArguments:
    """`TrainingArguments` for a stage, with an optimiser, a schedule and loggers that can be made.

    Sets what belongs to the process: the precision in `ACCELERATE_MIXED_PRECISION`, which `accelerate` reads, and on a
    CPU the number of threads. `machine.process_settings_kept` takes both back.

    Args:
        recipe: names the line of a key in errors.
        folder: where checkpoints go.
        stage: the section `train` as it is in this stage; that of the recipe when None.

    Raises:
        UserError: the settings contradict one another or the machine, or need a package that is not installed.
    """
    train = stage or recipe.train
    for way in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{way}", "").lower() == "true":
            raise UserError(f"accelerate launch asks for {way}: models are not sharded here, so use --multi_gpu alone.")
    device = processes().device.type
    on_gpu = device == "cuda" and not train.passed_through.get("use_cpu")
    precision = _precision(train, on_gpu)
    # The recipe decides, not what a launcher, or an earlier training in this process, has left there.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no" if precision == "fp32" else precision
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "eval_strategy": "epoch",
        "logging_nan_inf_filter": False,  # such a loss stops the run
        "restore_callback_states_from_checkpoint": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],  # which not every network takes
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": on_gpu,
        "accelerator_config": {"non_blocking": on_gpu},
        "use_cpu": device == "cpu",
    }
    settings = _settings(train)
    try:
        args = TrainingArguments(**(defaults | settings))
    except Exception as error:
        for key, value in settings.items():  # which one is it
            with _naming(recipe, train, key):
                TrainingArguments(**(defaults | {key: value}))
        raise UserError(f"The section `train` of the recipe does not make TrainingArguments: {error}") from error
    _check_parts(recipe, train, args)
    use_one_device(args)
    if args.device.type == "cpu":
        _share_cores()
    return args


@contextmanager
def _naming(recipe: Recipe, train: Train, key: str) -> Iterator[None]:
    """Inside, any error becomes a `UserError` that names a key of `train`, and where it stands."""
    try:
        yield
    except Exception as error:  # of packages that are missing, and of values, each in a class of its own
        place = recipe.where(f"train.{key}")
        raise UserError(f"train.{key}={getattr(train, key, None)!r} ({place}): {error}") from error


def _check_parts(recipe: Recipe, train: Train, args: TrainingArguments) -> None:
    """Make what the Trainer makes only when training begins: loggers, optimiser and schedule."""
    with _naming(recipe, train, "report_to"):
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    with _naming(recipe, train, "optim" if "optim" in train.passed_through else "learning_rate"):
        optimizer, settings = Trainer.get_optimizer_cls_and_kwargs(args)
        if {"params", "model", "optimizer_dict"} & settings.keys():
            raise ValueError("it chooses its own parameters: take adamw_torch or sgd.")
        made = optimizer([nn.Parameter(torch.zeros(2, 2))], **settings)
    with _naming(recipe, train, "lr_scheduler_kwargs" if args.lr_scheduler_kwargs else "lr_scheduler_type"):
        kwargs: Any = args.lr_scheduler_kwargs
        get_scheduler(args.lr_scheduler_type, made, args.get_warmup_steps(100), 100, kwargs)


def _precision(train: Train, on_gpu: bool) -> str:
    """`fp32`, `bf16` or `fp16`."""
    precision = train.precision
    if precision == "auto":  # older GPUs emulate bf16, slower than fp32
        has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "fp16" if on_gpu else "fp32"
    if precision == "fp16" and not on_gpu:
        raise UserError("train.precision=fp16 needs a GPU: use fp32, bf16 or auto.")
    if precision == "fp16" and train.sam_rho:
        raise UserError("train.sam_rho: SAM cannot use the scaled gradients of fp16: set train.precision=fp32.")
    return precision


def _settings(train: Train) -> dict[str, Any]:
    """The settings of the recipe, in the words of the installed transformers."""
    settings = {name: value for name, value in train if name not in OURS}
    settings["report_to"] = [name for name in train.report_to if name != "tensorboard"]  # which `fit` writes for
    if train.lr_scheduler_type == ONE_CYCLE:
        settings["lr_scheduler_type"] = "constant"
    if "warmup_steps" not in settings:  # transformers 5 has one field for steps and shares
        settings["warmup_ratio" if "warmup_ratio" in FIELDS else "warmup_steps"] = train.warmup_ratio
    if train.lr_scheduler_type == "reduce_lr_on_plateau" and train.metric_for_best_model != "loss":
        # torch lowers the rate when a metric stops falling
        settings["lr_scheduler_kwargs"] = {"mode": "max"} | dict(settings.get("lr_scheduler_kwargs") or {})
    return settings


def _share_cores() -> None:
    """Share the machine's physical cores among its processes; launchers set one thread for each."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(1024)
    share = (psutil.cpu_count(logical=False) or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, min(share, len(allowed))))


@cache
def compiler_fault(device: torch.device) -> str | None:
    """Why `torch.compile` does not work on a device, such as for want of a compiler; None when it does.

    Found by trying.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:  # of compilers, drivers and headers, each in a class of its own
        cause = getattr(error, "inner_exception", error)
        return (str(cause).strip() or repr(cause)).splitlines()[0]
    return None
