"""Training as one function: recipe, faces and run folder in, the best model in `run.model` out."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from datasets import Dataset, DatasetDict
from torch.utils.tensorboard import SummaryWriter
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from fer_hf.errors import UserError
from fer_hf.evaluation.metrics import classification_metrics
from fer_hf.images import EvalTransform, FaceDataset, ImageSpec, TrainTransform, collate
from fer_hf.launch import processes
from fer_hf.models.load import load_model
from fer_hf.progress import console
from fer_hf.recipe import Augment, Loss, Recipe, Train
from fer_hf.run import Run
from fer_hf.training.callbacks import Clock, ExactResume, ProgressLine
from fer_hf.training.checkpoints import newest_sound, step_of
from fer_hf.training.trainer import FerTrainer


def fit(recipe: Recipe, splits: DatasetDict, run: Run, resume: bool = False) -> None:
    """Train, keep the best model in `run.model`, and write the sections `model` and `training` of metrics.json.

    With `resume`, training goes on from the newest checkpoint that verifies. All processes of a launch call this.
    """
    args = training_arguments(recipe.train, run)
    set_seed(recipe.train.seed)
    labels = tuple(splits["train"].features["label"].names)
    settings = recipe.model.model_dump(exclude={"name", "pretrained"})
    loaded = load_model(recipe.model.name, labels, pretrained=recipe.model.pretrained, **settings)
    spec = ImageSpec.from_processor(loaded.processor)
    train, clock = splits["train"], Clock()
    trainer = FerTrainer(
        loaded.model,
        args,
        data_collator=collate,
        train_dataset=FaceDataset(train),
        eval_dataset=FaceDataset(splits["validation"]),
        compute_metrics=lambda result: _scalars(classification_metrics(result.predictions, result.label_ids, labels)),
        callbacks=[ExactResume(), clock],
        train_transform=_train_transform(recipe.augment, spec, len(train), recipe.train.seed),
        eval_transform=EvalTransform(spec),
        processor=loaded.processor,
        best_model=run.model,
        class_weights=class_weights(recipe.loss, train),
        label_smoothing=recipe.loss.label_smoothing,
        channels_last=recipe.train.channels_last,
    )
    checkpoint = _checkpoint_to_resume(run, args) if resume else None
    trainer.clear_leftovers()
    progress = _add_callbacks(trainer, recipe.train, run, checkpoint)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state and _had_ended(state):
        trainer.state, clock = state, _restored_clock(state)
    else:
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            if progress:
                progress.stop()  # also after an error, which is printed below it
        clock = next(c for c in trainer.callback_handler.callbacks if isinstance(c, Clock))  # a resume makes a new one
    if trainer.is_world_process_zero():
        parent = Run(recipe.model.name).metrics().get("model", {})  # a run that was fine-tuned again
        parameters = sum(p.numel() for p in loaded.model.parameters())
        run.update_metrics(
            model={
                "name": recipe.public()["model"]["name"],
                "base_model": loaded.base_model or parent.get("base_model"),
                "architecture": getattr(loaded.model.config, "architecture", loaded.model.config.model_type),
                "pretrained": recipe.model.pretrained,
                "parameters": parameters,
                "image_size": list(spec.size),
                "mean": list(spec.mean),
                "std": list(spec.std),
                "head": loaded.head,
                "notes": loaded.notes or parent.get("notes", []),
            },
            training=_summary(trainer, recipe.train, clock, len(train)),
        )
    trainer.accelerator.wait_for_everyone()  # before the others read what was written


def training_arguments(train: Train, run: Run) -> TrainingArguments:
    """The recipe's `train` section as `TrainingArguments` of the installed transformers, 4.57 or 5."""
    device = processes().device.type
    on_gpu = device == "cuda" and not train.passed_through.get("use_cpu")
    precision = train.precision
    if precision == "auto":  # older GPUs emulate bf16, slower than fp32
        has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "fp16" if on_gpu else "fp32"
    if precision == "fp16" and not on_gpu:
        raise UserError("train.precision=fp16 needs a GPU: use fp32, bf16 or auto.")
    known = {name for name, field in TrainingArguments.__dataclass_fields__.items() if field.init}
    extra = dict(train.passed_through)
    if "warmup_steps" not in extra:  # transformers 5 has one field for steps and shares
        extra["warmup_ratio" if "warmup_ratio" in known else "warmup_steps"] = train.warmup_ratio
    if train.lr_scheduler_type == "reduce_lr_on_plateau" and train.metric_for_best_model != "loss":
        extra.setdefault("lr_scheduler_kwargs", {"mode": "max"})  # torch lowers the rate when a metric stops falling
    settings: dict[str, Any] = {
        "output_dir": str(run.checkpoints),
        "num_train_epochs": train.num_train_epochs,
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "per_device_eval_batch_size": train.per_device_eval_batch_size,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.lr_scheduler_type,
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
        "report_to": [name for name in train.report_to if name != "tensorboard"],
        "restore_callback_states_from_checkpoint": True,
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": on_gpu,
        "use_cpu": device == "cpu",
    }
    try:
        args = TrainingArguments(**(settings | extra))
    except (TypeError, ValueError) as error:
        raise UserError(f"The section `train` of the recipe does not make TrainingArguments: {error}") from error
    if args.device.type == "cpu":  # launchers set one thread; the machine's physical cores are shared by the processes
        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return args


def class_weights(loss: Loss, train: Dataset) -> torch.Tensor | None:
    """Weights `(C,)` of the loss, or None. `balanced` is n / (classes * n_class), as in scikit-learn."""
    names = train.features["label"].names
    if loss.class_weights == "none":
        return None
    if loss.class_weights == "balanced":
        counts = np.bincount(train["label"][:], minlength=len(names))
        return torch.tensor(counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), dtype=torch.float32)
    if len(loss.class_weights) != len(names):
        raise UserError(
            f"loss.class_weights has {len(loss.class_weights)} weights for the {len(names)} labels {names}."
        )
    return torch.tensor(loss.class_weights, dtype=torch.float32)


def _train_transform(augment: Augment, spec: ImageSpec, num_samples: int, seed: int) -> TrainTransform | None:
    if not augment.enabled:
        return None
    return TrainTransform(spec, num_samples, seed, **augment.model_dump(exclude={"enabled"}))


def _add_callbacks(trainer: FerTrainer, train: Train, run: Run, checkpoint: Path | None) -> ProgressLine | None:
    """Early stopping, TensorBoard and the terminal; returns the progress line of the main process."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if train.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(train.early_stopping_patience))
    if not trainer.is_world_process_zero():
        return None
    line = ProgressLine(console, _images_per_step(trainer))
    trainer.add_callback(line)
    if "tensorboard" in train.report_to:
        step = step_of(checkpoint) + 1 if checkpoint else None  # what a killed run logged after its checkpoint
        trainer.add_callback(TensorBoardCallback(SummaryWriter(str(run.tensorboard), purge_step=step)))
    return line


def _images_per_step(trainer: FerTrainer) -> int:
    return trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * trainer.args.world_size


def _checkpoint_to_resume(run: Run, args: TrainingArguments) -> Path | None:
    """The newest sound checkpoint; says which ones were passed over and why."""
    checkpoint, passed_over = newest_sound(run.checkpoints, args.world_size)
    if passed_over and not checkpoint:
        raise UserError(
            f"No checkpoint in {run.checkpoints} can be resumed from: {'; '.join(passed_over)}. Resume on as many "
            "processes as wrote them, or start a new run without --resume."
        )
    if args.process_index == 0:
        for line in passed_over:
            console.print(f"passed over {line}", style="yellow", markup=False)
        console.print(f"resuming from {checkpoint.name if checkpoint else 'the beginning'}", highlight=False)
    return checkpoint


def _had_ended(state: TrainerState) -> bool:
    """Whether training was over when this state was saved: all steps done, or stopped early."""
    saved: Any = state.stateful_callbacks or {}
    stopped = saved.get("TrainerControl", {}).get("args", {}).get("should_training_stop")
    return state.global_step >= state.max_steps or bool(stopped)


def _restored_clock(state: TrainerState) -> Clock:
    clock, saved = Clock(), cast(dict[str, Any], state.stateful_callbacks)
    for name, value in saved["Clock"]["attributes"].items():
        setattr(clock, name, value)
    return clock


def _scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """The figures that can be logged and chosen by."""
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def history(log: list[dict[str, float]]) -> list[dict[str, float | None]]:
    """One row per evaluation from the log; the training loss is the mean over the steps since the last one."""
    rows: list[dict[str, float | None]] = []
    losses: list[float] = []
    step, rate = 0, 0.0
    for entry in log:
        if "loss" in entry:
            losses += [entry["loss"]] * int(entry["step"] - step)
            step, rate = int(entry["step"]), entry["learning_rate"]
        elif "eval_loss" in entry:
            rows.append(
                {
                    "epoch": entry["epoch"],
                    "step": entry["step"],
                    "train_loss": float(np.mean(losses)) if losses else None,
                    "validation_loss": entry["eval_loss"],
                    "accuracy": entry["eval_accuracy"],
                    "macro_f1": entry["eval_macro_f1"],
                    "learning_rate": rate,
                }
            )
            losses = []
    return rows


def _summary(trainer: FerTrainer, train: Train, clock: Clock, images: int) -> dict[str, Any]:
    """The section `training` of metrics.json."""
    state, args = trainer.state, trainer.args
    rows = history(state.log_history)
    key = f"eval_{train.metric_for_best_model}"
    best = next(entry for entry in state.log_history if entry.get(key) == state.best_metric)
    peak = torch.cuda.max_memory_allocated() / 2**20 if args.device.type == "cuda" else _peak_memory_mb()
    return {
        "epochs": round(state.epoch or 0.0, 4),
        "steps": state.global_step,
        "seconds": round(clock.seconds, 1),
        "images_per_second": round(images * (state.epoch or 0.0) / max(clock.train_seconds, 1e-9), 1),
        "effective_batch_size": _images_per_step(trainer),
        "processes": args.world_size,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "device": torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else args.device.type,
        "seed": train.seed,
        "peak_memory_mb": round(peak, 1),
        "stopped_early": state.global_step < state.max_steps,
        "resumed_at_steps": clock.resumed_at_steps,
        "best": {
            "metric": train.metric_for_best_model,
            "value": state.best_metric,
            "epoch": best["epoch"],
            "step": best["step"],
        },
        "history": rows,
    }


def _peak_memory_mb() -> float:
    """Peak resident memory of this process in MiB; where the system does not keep it, the present one."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().rss / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if os.uname().sysname == "Darwin" else peak / 2**10
