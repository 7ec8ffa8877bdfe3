"""What does not go together in a recipe, and what `train` may not pass on to `TrainingArguments`.

Each check returns pairs of the key to change and the reason, in words that end a line such as `train.fsdp: ...`.
"""

from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from fer_hf.emotions import label_names
from fer_hf.recipe.schema import Recipe, Stage, Train

Problem = tuple[str, str]

GONE = "each model fits on one GPU, and several train it by DDP (accelerate launch --multi_gpu)."
SET_BY_US = {
    "output_dir": "The run folder decides it: use --output.",
    "logging_dir": "TensorBoard files lie in the run folder: use --output.",
    "run_name": "It is the name of the recipe and of the run folder.",
    "bf16": "Use train.precision.",
    "fp16": "Use train.precision.",
    "label_smoothing_factor": "Use loss.label_smoothing.",
    "eval_strategy": "There is one evaluation after each epoch, which chooses the model.",
    "save_strategy": "Use train.save_steps.",
    "save_only_model": "A checkpoint holds all that a resume needs.",
    "resume_from_checkpoint": "Use --resume.",
    "load_best_model_at_end": "The best model is always kept, in the run's model/.",
    "greater_is_better": "train.metric_for_best_model decides it.",
    "remove_unused_columns": "The transforms need all columns.",
    "label_names": "Labels come from data.label_set.",
    "deepspeed": f"Models are not sharded here: {GONE}",
    "group_by_length": "Images have no length.",
    "dataloader_drop_last": "It would drop validation images too.",
    **dict.fromkeys(("torch_compile_backend", "torch_compile_mode"), "Use train.torch_compile."),
    **dict.fromkeys(("eval_delay", "eval_on_start"), "There is one evaluation after each epoch."),
    **dict.fromkeys(("ignore_data_skip", "restore_callback_states_from_checkpoint"), "A resume is exact."),
    **dict.fromkeys(("prediction_loss_only", "batch_eval_metrics"), "The metrics need all predictions at once."),
}
"""Fields of TrainingArguments that a recipe may not set, and what to do instead."""

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
    """Keys that the installed `TrainingArguments` does not have, or that are set by us, and values of a wrong type."""
    if not train.passed_through:
        return []
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    types = {field.name: hints[field.name] for field in fields(TrainingArguments) if field.init}
    reasons = {key: _reason(key, value, types) for key, value in train.passed_through.items()}
    return [(f"train.{key}", reason) for key, reason in reasons.items() if reason]


def _reason(key: str, value: Any, types: dict[str, Any]) -> str:
    """Why a key cannot be passed on; empty when it can."""
    if key in RETIRED or key.startswith("fsdp_"):
        return f"this key is gone: {GONE}"
    if key in SET_BY_US or key.startswith(("hub_", "push_to_hub")):
        return f"it is set by fer_hf. {SET_BY_US.get(key, 'Use `fer-hf push`.')}"
    if key not in types:
        near = get_close_matches(key, [*Train.model_fields, *sorted(types)], n=1)
        return "unknown key, also to TrainingArguments." + (f" Did you mean 'train.{near[0]}'?" if near else "")
    try:
        TypeAdapter(types[key]).validate_python(value)
    except ValidationError as error:
        return f"{error.errors()[0]['msg']}, but it is {value!r}"
    return ""
