"""The recipe's `train` section as `TrainingArguments` of the installed transformers, 4.57 or 5."""

import os
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import DistributedType
from transformers import TrainingArguments

from fer_hf.errors import UserError
from fer_hf.recipe.schema import Train
from fer_hf.training.launch import processes

ONE_CYCLE = "one_cycle"


def training_arguments(train: Train, folder: Path) -> TrainingArguments:
    """`TrainingArguments` whose checkpoints go to `folder`. Raises `UserError` when they contradict one another."""
    if train.fsdp and "WORLD_SIZE" in os.environ:
        # `accelerate` looks here before it connects the processes. Checkpoints in shards would hold a pickle.
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    device = processes().device.type
    on_gpu = device == "cuda" and not train.passed_through.get("use_cpu")
    precision = train.precision
    if precision == "auto":  # older GPUs emulate bf16, slower than fp32
        has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "fp16" if on_gpu else "fp32"
    if precision == "fp16" and not on_gpu:
        raise UserError("train.precision=fp16 needs a GPU: use fp32, bf16 or auto.")
    if precision == "fp16" and train.sam_rho:
        raise UserError("train.sam_rho: SAM cannot use the scaled gradients of fp16: set train.precision=fp32.")
    # The recipe decides, not what a launcher, or an earlier training in this process, has left there.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no" if precision == "fp32" else precision
    known = {name for name, field in TrainingArguments.__dataclass_fields__.items() if field.init}
    extra = dict(train.passed_through)
    if "warmup_steps" not in extra:  # transformers 5 has one field for steps and shares
        extra["warmup_ratio" if "warmup_ratio" in known else "warmup_steps"] = train.warmup_ratio
    asked = {way for way in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{way}", "").lower() == "true"}
    if asked - ({"FSDP"} if train.fsdp else set()):
        raise UserError("Ask for sharding in the recipe, train.fsdp=true, not of accelerate launch (FSDP, DeepSpeed).")
    if train.fsdp:
        if processes().distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU):  # `accelerate` would not
            raise UserError("train.fsdp needs several GPUs: accelerate launch --multi_gpu --num_processes N.")
        if not isinstance(config := extra.get("fsdp_config", {}), dict):
            raise UserError(f"train.fsdp_config={config!r}: give its keys in the recipe, not a file.")
        extra["fsdp_config"] = config | {"version": 2}
        extra["fsdp"] = "full_shard auto_wrap" if "warmup_ratio" in known else True
    if train.lr_scheduler_type == "reduce_lr_on_plateau" and train.metric_for_best_model != "loss":
        # torch lowers the rate when a metric stops falling
        extra["lr_scheduler_kwargs"] = {"mode": "max"} | dict(extra.get("lr_scheduler_kwargs") or {})
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": train.num_train_epochs,
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "per_device_eval_batch_size": train.per_device_eval_batch_size,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "constant" if train.lr_scheduler_type == ONE_CYCLE else train.lr_scheduler_type,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "seed": train.seed,
        "eval_strategy": "epoch",
        "save_strategy": "steps",
        "save_steps": train.save_steps,
        "save_total_limit": train.save_total_limit,
        "metric_for_best_model": train.metric_for_best_model,
        "greater_is_better": train.metric_for_best_model != "loss",
        "logging_strategy": "steps",
        "logging_steps": train.logging_steps,
        "logging_nan_inf_filter": False,  # such a loss stops the run
        "report_to": [name for name in train.report_to if name != "tensorboard"],
        "restore_callback_states_from_checkpoint": True,
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": on_gpu,
        "accelerator_config": {"non_blocking": on_gpu},
        "use_cpu": device == "cpu",
    }
    try:
        args = TrainingArguments(**(settings | extra))
    except (TypeError, ValueError) as error:
        raise UserError(f"The section `train` of the recipe does not make TrainingArguments: {error}") from error
    args._n_gpu = min(args.n_gpu, 1)  # a process has one; with several the Trainer makes threads, which lose autocast
    if args.device.type == "cpu":  # launchers set one thread; the machine's physical cores are shared by the processes
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(1024)
        share = (psutil.cpu_count(logical=False) or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, min(share, len(allowed))))
    return args
