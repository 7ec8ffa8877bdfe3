"""What does not go together in a recipe, and what `train` may not pass on to `TrainingArguments`.

Each check returns pairs of the key to change and the reason, in words that end a line such as `train.fsdp: ...`.
"""

from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fer_hf.emotions import label_names
from fer_hf.recipe.schema import Recipe, Stage, Train

Problem = tuple[str, str]

GONE = "each model fits on one GPU, and several train it by DDP (accelerate launch --multi_gpu)."
Count, Positive = Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]
PASSED_ON: dict[str, Any] = {
    "max_steps": int,
    "gradient_accumulation_steps": Positive,
    "warmup_steps": Annotated[float, Field(ge=0)],
    "optim": str,
    "optim_args": str | None,
    "adam_beta1": float,
    "adam_beta2": float,
    "adam_epsilon": float,
    "lr_scheduler_kwargs": dict[str, Any] | None,
    "tf32": bool | None,
    "use_cpu": bool,
    "full_determinism": bool,
    "logging_first_step": bool,
    "logging_strategy": Literal["steps", "epoch", "no"],
    "eval_accumulation_steps": Positive | None,
    "torch_empty_cache_steps": Positive | None,
    **dict.fromkeys(("activation_checkpointing", "gradient_checkpointing"), bool | None),
    **dict.fromkeys(("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"), dict[str, Any] | None),
    "dataloader_num_workers": Count,
    "dataloader_prefetch_factor": Positive | None,
    "dataloader_multiprocessing_context": Literal["fork", "forkserver", "spawn"] | None,
    **dict.fromkeys(("dataloader_drop_last", "dataloader_pin_memory", "dataloader_persistent_workers"), bool),
    "ddp_bucket_cap_mb": Positive | None,
    **dict.fromkeys(("ddp_find_unused_parameters", "ddp_broadcast_buffers", "ddp_static_graph"), bool | None),
    **dict.fromkeys(("project", "trackio_space_id", "trackio_bucket_id"), str | None),  # for train.report_to
}
"""Fields of TrainingArguments that a recipe may set, and their types. All others, also of a later transformers, are
refused."""
SET_BY_US = {
    "output_dir": "The run folder decides it: use --output.",
    "logging_dir": "TensorBoard files lie in the run folder: use --output.",
    "run_name": "It is the name of the recipe and of the run folder.",
    **dict.fromkeys(("bf16", "fp16", "bf16_full_eval", "fp16_full_eval"), "Use train.precision."),
    "label_smoothing_factor": "Use loss.label_smoothing.",
    "data_seed": "Use train.seed.",
    "train_sampling_strategy": "Use train.sampling.",
    **dict.fromkeys(("eval_strategy", "eval_steps"), "There is one evaluation after each epoch, for the best model."),
    "save_strategy": "Use train.save_steps.",
    "save_only_model": "A checkpoint holds all that a resume needs.",
    "resume_from_checkpoint": "Use --resume, or --resume-from CHECKPOINT.",
    "load_best_model_at_end": "The best model is always kept, in the run's model/.",
    "greater_is_better": "train.metric_for_best_model decides it.",
    "remove_unused_columns": "The transforms need all columns.",
    "label_names": "Labels come from data.label_set.",
    "deepspeed": f"Models are not sharded here: {GONE}",
    "group_by_length": "Images have no length.",
    "enable_jit_checkpoint": "SIGTERM always saves a checkpoint.",
    "optim_target_modules": "The groups of parameters follow from train.weight_decay and train.layer_decay.",
    **dict.fromkeys(("torch_compile_backend", "torch_compile_mode"), "Use train.torch_compile."),
    **dict.fromkeys(("eval_delay", "eval_on_start"), "There is one evaluation after each epoch."),
    **dict.fromkeys(
        ("ignore_data_skip", "restore_callback_states_from_checkpoint", "dataloader_in_order"), "A resume is exact."
    ),
    **dict.fromkeys(
        (
            *("prediction_loss_only", "batch_eval_metrics", "include_for_metrics", "include_inputs_for_metrics"),
            *("eval_do_concat_batches", "eval_use_gather_object"),
        ),
        "The metrics need all predictions at once, and no more.",
    ),
    **dict.fromkeys(("ddp_backend", "ddp_timeout", "accelerator_config", "local_rank"), "`accelerate launch` decides."),
}
"""Fields of TrainingArguments that a recipe may not set for a reason of their own, and what to do instead."""

RETIRED = {"fsdp": False, "ddp_comm_hook": "none", "torch_compile": "auto"}
"""Keys of `train` that are gone, with the value that asked for nothing, which recipe.yaml of earlier runs has: it is
dropped when such a file is read."""


def contradictions(recipe: Recipe) -> Iterator[Problem]:
    """Settings that do not go together."""
    loss, train, augment = recipe.loss, recipe.train, recipe.augment
    labels, weights, mixes = label_names(recipe.data.label_set), loss.class_weights, augment.mixup or augment.cutmix
    smooth = {"loss.label_smoothing": loss.label_smoothing, "loss.soft_labels": loss.soft_labels}
    softens = [key for key, on in {"augment.mixup or augment.cutmix": mixes, **smooth}.items() if on]
    if recipe.export.int8 and not recipe.export.onnx:
        yield "export.int8", "quantises the ONNX model: set export.onnx too"
    if loss.focal_gamma and softens:
        yield "loss.focal_gamma", f"the focal loss takes hard labels only: leave out {' and '.join(softens)}"
    if mixes and not augment.enabled:
        yield "augment.mixup", "mixing is an augmentation, and augment.enabled is false"
    if not isinstance(weights, str) and len(weights) != len(labels):
        yield "loss.class_weights", f"{len(weights)} weights for the {len(labels)} labels {', '.join(labels)}"
    if too_many := [k for k in recipe.evaluate.top_k if k > len(labels)]:
        yield "evaluate.top_k", f"{too_many[0]} is more than the {len(labels)} labels {', '.join(labels)}"
    if train.sampling == "class_balanced" and weights != "none":
        yield "train.sampling", "balances the classes a second time: choose it or loss.class_weights"
    yield from _contradictions_of_training(train, augment.enabled)


def _contradictions_of_training(train: Train, augments: bool) -> Iterator[Problem]:
    """Settings of `train` that do not go together."""
    by_steps, sizes = train.passed_through.get("max_steps", -1) > 0, train.progressive_sizes
    epochs = min(stage.num_train_epochs or train.num_train_epochs for stage in train.stages or [Stage()])
    if train.lr_scheduler_type == "one_cycle" and train.passed_through.get("lr_scheduler_kwargs"):
        yield "train.lr_scheduler_kwargs", "one_cycle takes none: leave it out"
    for key in ("dataloader_persistent_workers", "dataloader_prefetch_factor"):
        if train.passed_through.get(key) and not train.passed_through.get("dataloader_num_workers"):
            yield f"train.{key}", "needs workers: set train.dataloader_num_workers"
    if train.sam_rho and train.precision == "fp16":
        yield "train.sam_rho", "SAM cannot use the scaled gradients of fp16: set train.precision to bf16 or fp32"
    if train.sam_adaptive and not train.sam_rho:
        yield "train.sam_adaptive", "needs a radius: set train.sam_rho"
    if train.stages and by_steps:
        yield "train.max_steps", "would hold for each of the stages: give them num_train_epochs"
    if sizes and (not augments or by_steps):
        yield "train.progressive_sizes", "needs augment.enabled, and num_train_epochs instead of max_steps"
    if sizes and epochs < len(sizes) + 1:  # each size, and the model's own, needs an epoch
        why = f"{len(sizes)} sizes, and the model's own, for {epochs:g} epochs: each needs one"
        yield "train.progressive_sizes", why


def passed_through_problems(train: Train) -> list[Problem]:
    """Keys that are not passed on to the installed `TrainingArguments`, and values that are not allowed."""
    if not train.passed_through:
        return []
    from transformers import TrainingArguments, __version__

    known = {field.name for field in fields(TrainingArguments) if field.init}
    reasons = {key: _reason(key, value, known, __version__) for key, value in train.passed_through.items()}
    return [(f"train.{key}", reason) for key, reason in reasons.items() if reason]


def _reason(key: str, value: Any, known: set[str], version: str) -> str:
    """Why a key cannot be passed on; empty when it can."""
    if key in RETIRED or key.startswith("fsdp_"):
        return f"this key is gone: {GONE}"
    if key in SET_BY_US or key.startswith(("hub_", "push_to_hub")):
        return f"it is set by fer_hf. {SET_BY_US.get(key, 'Use `fer-hf push`.')}"
    if key not in known:
        near = get_close_matches(key, [*Train.model_fields, *sorted(known)], n=1)
        hint = f" Did you mean 'train.{near[0]}'?" if near else ""
        return f"unknown key, also to TrainingArguments of transformers {version}.{hint}"
    if key not in PASSED_ON:
        return "a field of TrainingArguments that has no use here: leave it out"
    try:
        TypeAdapter(PASSED_ON[key], config=ConfigDict(strict=isinstance(value, bool))).validate_python(value)
    except ValidationError as error:
        return f"{error.errors()[0]['msg']}, but it is {value!r}"
    return ""
