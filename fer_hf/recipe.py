"""The recipe: one YAML file is one experiment.

Design: typed pydantic classes whose fields are the documentation; unknown keys are errors that name the nearest known
key; `section.key=value` overrides; `train` takes every other field of `transformers.TrainingArguments` by its own name;
a recipe dumps with every default filled in, and that dump loads to the same recipe.
"""

import re
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from fer_hf.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


# Fields of TrainingArguments that a recipe may not set, and what to do instead.
SET_BY_US = {
    "output_dir": "The run folder decides it: use --output.",
    "logging_dir": "TensorBoard files lie in the run folder: use --output.",
    "run_name": "It is the recipe's name.",
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
    "group_by_length": "Images have no length.",
    "dataloader_drop_last": "It would drop validation images too.",
    **dict.fromkeys(("eval_delay", "eval_on_start"), "There is one evaluation after each epoch."),
    **dict.fromkeys(("ignore_data_skip", "restore_callback_states_from_checkpoint"), "A resume is exact."),
    **dict.fromkeys(("prediction_loss_only", "batch_eval_metrics"), "The metrics need all predictions at once."),
}


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values are checked."""

    model_config = ConfigDict(extra="forbid", validate_default=True, use_attribute_docstrings=True)


class Model(Section):
    name: str = "timm/efficientnet_b0.ra_in1k"
    """Hub id, timm name (with or without `timm/`), or a local folder."""
    pretrained: bool = True
    """False starts from random weights (timm's own initialisation for timm models)."""
    image_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    """Input height and width in pixels; by default what the model was trained with."""
    drop_rate: Fraction = 0.0
    """Dropout before the classifier (timm models)."""
    drop_path_rate: Fraction = 0.0
    """Stochastic depth (timm models)."""


class Weighted(Section):
    """A source among several."""

    source: str
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How many times its training images count: 2 repeats them, 0.5 takes half of each class."""


class Data(Section):
    source: str | Annotated[list[str | Weighted], Field(min_length=1)] = "toy"
    """`toy`, `KIND:PATH` (fer2013, ferplus, rafdb, affectnet, ckplus, folder) or `hub:org/name`; or a list of these,
    each perhaps as `{source: ..., weight: ...}`."""
    label_set: Literal["fer6", "fer7", "fer8"] | Annotated[list[str], Field(min_length=2)] = "fer7"
    """Which emotions, by set or by name; images of other emotions are dropped and counted."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images set aside when the source has no validation split: by person where the source knows
    the person (`subject`), else the same share of each class."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share set aside likewise when the source has no test split."""
    split_seed: int = 0
    """Seed of the splits and subsets that are drawn here."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What an unreadable image does: stop with its name, or be skipped, counted and listed."""
    exclude: str | None = None
    """A csv with the columns `split` and `id` of images to leave out, as `fer-hf data audit` writes it."""
    absent_classes: Literal["allow", "error"] = "allow"
    """Whether a source may lack a class of the label set."""
    mixture: Annotated[dict[str, dict[str, Fraction]], Field(min_length=1, max_length=1)] | None = None
    """Shares of an attribute in each class of the training split, such as `{gender: {female: 0.75, male: 0.25}}`.
    Mixtures of the same values have equal size and class shares; name a value with share 0 to leave it out."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Train on this share of each class."""
    per_class: Annotated[int, Field(ge=1)] | None = None
    """Train on at most so many images of each class."""
    votes: Literal["majority", "argmax", "soft"] = "majority"
    """FER+: keep images with a majority of votes for one emotion, those where an emotion has the most votes of all ten
    columns, or those that pass the filter for soft labels."""
    stream_images: Annotated[int, Field(ge=1)] | None = None
    """Hub: take only so many images of each split, streamed, instead of downloading all."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> "Data":
        for attribute, shares in (self.mixture or {}).items():
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"mixture: the shares of {attribute} add up to {sum(shares.values()):g}, not to 1")
        return self

    def public_source(self) -> Any:
        """`source` without paths of this machine: `fer2013:/home/me/x` becomes `fer2013:PATH`."""
        source = self.model_dump(mode="json")["source"]
        entries = [source] if isinstance(source, str) else source
        hidden = [
            _without_path(entry) if isinstance(entry, str) else entry | {"source": _without_path(entry["source"])}
            for entry in entries
        ]
        return hidden[0] if isinstance(source, str) else hidden


def _without_path(source: str) -> str:
    kind, separator, _ = source.partition(":")
    return f"{kind}:PATH" if separator and kind != "hub" else source


class Augment(Section):
    """Training only. Drawn per image from (seed, epoch, index), so it does not depend on workers or on a resume."""

    enabled: bool = True
    crop_scale: Range = (0.8, 1.0)
    """Random resized crop: area as a share of the image; above 1 zooms out."""
    crop_ratio: Range = (0.9, 1.11)
    """Aspect ratio of that crop."""
    horizontal_flip: Fraction = 0.5
    """Probability."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Degrees, to either side."""
    brightness: Fraction = 0.2
    """Colour jitter: factors are drawn from [1 - x, 1 + x]."""
    contrast: Fraction = 0.2
    saturation: Fraction = 0.0
    erasing: Fraction = 0.0
    """Probability of random erasing (2 to 20 % of the area, filled with the mean colour)."""

    @model_validator(mode="after")
    def _ordered(self) -> "Augment":
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is (low, high), and {low} is above {high}")
        return self


class Train(Section):
    """Ours, and every other field of `transformers.TrainingArguments` by its own name."""

    model_config = ConfigDict(extra="allow", validate_default=True, use_attribute_docstrings=True)

    num_train_epochs: Annotated[float, Field(gt=0)] = 10
    per_device_train_batch_size: Annotated[int, Field(ge=1)] = 32
    per_device_eval_batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    lr_scheduler_type: str = "cosine"
    warmup_ratio: Fraction = 0.1
    """Share of all steps over which the rate rises from 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradient clipping; 0 switches it off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 or else fp16 on a GPU that has it, fp32 elsewhere."""
    channels_last: bool = True
    """Memory format of the convolutions; up to 1.6 times faster, same results."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    save_steps: Annotated[int, Field(ge=1)] = 100
    """Optimiser steps between checkpoints; there is one after each evaluation as well."""
    save_total_limit: Annotated[int, Field(ge=1)] | None = 3
    """How many checkpoints are kept; null keeps all."""
    metric_for_best_model: Literal["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "loss"] = "macro_f1"
    """Validation metric that chooses the model that is kept."""
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    """Evaluations without gain before the run stops."""
    logging_steps: Annotated[int, Field(ge=1)] = 50
    report_to: list[str] = ["tensorboard"]

    @property
    def passed_through(self) -> dict[str, Any]:
        """The fields that only `TrainingArguments` knows."""
        return dict(self.model_extra or {})


class Loss(Section):
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] | list[Annotated[float, Field(gt=0)]] = "none"
    """`balanced`: n / (classes * n_class), as in scikit-learn; or one weight per label, in the label set's order."""


class Evaluate(Section):
    splits: Annotated[list[Literal["train", "validation", "test"]], Field(min_length=1)] = ["validation", "test"]
    """Evaluated with the best model after training."""


class Export(Section):
    onnx: bool = False
    """Write `onnx/model.onnx` after training (needs the extra `onnx`)."""
    int8: bool = False
    """Write `onnx/model_int8.onnx` too: static quantisation, calibrated on training images."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    calibration_images: Annotated[int, Field(ge=1)] = 256


class Report(Section):
    title: str | None = None
    """Title of the model card; by default the name of the recipe."""
    description: str | None = None
    """A paragraph for the top of the card."""


class Hub(Section):
    repo_id: str | None = None
    """`someone/name`; `fer-hf push` uses it when it is called without `--repo-id`."""
    private: bool = False
    license: str = "other"
    """Licence of the published weights, as a Hub licence id; it depends on the data, so the default claims nothing."""
    tags: list[str] = []


class Recipe(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^(\w[\w .-]*)?$")] = ""
    """Name of the run folder; by default the name of the file."""
    model: Model = Model()
    data: Data = Data()
    augment: Augment = Augment()
    train: Train = Train()
    loss: Loss = Loss()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    report: Report = Report()
    hub: Hub = Hub()

    @model_validator(mode="after")
    def _int8_needs_onnx(self) -> "Recipe":
        if self.export.int8 and not self.export.onnx:
            raise ValueError("export.int8 quantises the ONNX model: set export.onnx to true as well")
        return self

    def public(self) -> dict[str, Any]:
        """The recipe as plain objects without paths of this machine: `fer2013:/home/me/x` becomes `fer2013:PATH`."""
        content = self.model_dump(mode="json")
        content["data"]["source"] = self.data.public_source()
        if self.data.exclude:
            content["data"]["exclude"] = Path(self.data.exclude).name
        if Path(self.model.name).exists():
            content["model"]["name"] = Path(self.model.name).resolve().name
        for key, value in self.train.passed_through.items():
            if isinstance(value, str) and Path(value).is_absolute():
                content["train"][key] = "PATH"
        return content

    def to_yaml(self) -> str:
        """The recipe with every default filled in; loading it gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: `1e-4` is a number, where PyYAML's YAML 1.1 reads a string."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, origin: str) -> Any:
    """YAML to plain objects. Raises `UserError` with `origin` and the line when it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not valid YAML: {error}") from error


def shipped_recipes() -> Path:
    """The folder of the recipes that come with the package, installed or in a checkout."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def find_recipe(name: str | Path) -> Path:
    """A recipe's file: a path, or the name of a shipped recipe (`quickstart`, `fer2013/cpu_from_scratch`)."""
    path = Path(name)
    if path.is_file():
        return path
    root = shipped_recipes()
    known = sorted(file.relative_to(root).with_suffix("").as_posix() for file in root.rglob("*.yaml"))
    wanted = path.as_posix().removeprefix("recipes/").removesuffix(".yaml")
    if wanted in known:
        return root / f"{wanted}.yaml"
    near = get_close_matches(wanted, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"There is no recipe {str(name)!r}.{hint} Shipped recipes: {', '.join(known)}.")


def load_recipe(name: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read, override and validate a recipe. Raises `UserError` naming file, key, value and what is allowed."""
    path = find_recipe(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8, so no recipe: {error}.") from error
    content = parse_yaml(text, str(path)) or {}
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; a recipe is a mapping of sections.")
    for override in overrides or []:
        _override(content, override)
    if not content.get("name"):
        content["name"] = re.sub(r"[^\w .-]+", "-", path.stem)
    return validate_recipe(content, str(path))


def validate_recipe(content: dict[str, Any], origin: str = "recipe") -> Recipe:
    """A recipe from plain objects, with every problem in one `UserError`."""
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        # A list or mapping where a text may stand too: what is wrong inside of it is the problem.
        found = [
            item for item in error.errors() if item["loc"][-1:] != ("str",) or isinstance(item["input"], str | int)
        ]
        problems = [_problem(item) for item in found or error.errors()]
        raise UserError(f"{origin}:\n  " + "\n  ".join(problems)) from error
    _check_passed_through(recipe.train, origin)
    return recipe


def _override(content: dict[str, Any], override: str) -> None:
    """Apply `section.key=value`, the value being YAML."""
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts) or len(parts) > 2:
        raise UserError(f"{override!r} is not an override: write section.key=value, such as train.learning_rate=1e-4.")
    target = content
    for part in parts[:-1]:
        if not isinstance(target.get(part), dict):
            target[part] = {}
        target = target[part]
    # A value with a colon or a hash, such as `folder:/a b: c #2`, is a text for people; any other is YAML.
    is_text = not re.match(r"^[\[{'\"]", text) and re.search(r"[:#]", text)
    target[parts[-1]] = text if is_text else parse_yaml(text, f"The value of {key}")


def _problem(item: Any) -> str:
    """One validation error as a line for people."""
    key = ".".join(str(part) for part in item["loc"] if not re.fullmatch(r"str|Weighted|(list|literal)\[.*", str(part)))
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key.{_nearest(item['loc'])}"
    message = item["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(item["input"], dict | BaseModel) else f", but it is {item['input']!r}"
    return f"{key}: {message}{shown}" if key else message


def _nearest(location: tuple[int | str, ...]) -> str:
    """The known key nearest to an unknown one, in its own section first."""
    keys = {name: list(getattr(field.annotation, "model_fields", ())) for name, field in Recipe.model_fields.items()}
    own = keys.get(str(location[0]), []) if len(location) > 1 else []
    everywhere = {key: f"{name}.{key}" for name, section in keys.items() for key in section}
    wanted = str(location[-1])
    if wanted in everywhere:
        return f" Did you mean {everywhere[wanted]!r}?"
    if near := get_close_matches(wanted, own or list(Recipe.model_fields), n=1):
        return f" Did you mean {'.'.join([*map(str, location[:-1]), near[0]])!r}?"
    if near := get_close_matches(wanted, everywhere, n=1):
        return f" Did you mean {everywhere[near[0]]!r}?"
    return f" Known keys: {', '.join(own or Recipe.model_fields)}."


def _check_passed_through(train: Train, origin: str) -> None:
    """Refuse keys of `train` that the installed `TrainingArguments` does not have, or that we set ourselves."""
    if not train.passed_through:
        return
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments) if field.init}
    types = get_type_hints(TrainingArguments)
    for key, value in train.passed_through.items():
        if key in SET_BY_US or key.startswith(("hub_", "push_to_hub")):
            raise UserError(f"{origin}:\n  train.{key} is set by fer_hf. {SET_BY_US.get(key, 'Use `fer-hf push`.')}")
        if key not in known:
            near = get_close_matches(key, [*Train.model_fields, *sorted(known)], n=1)
            hint = f" Did you mean 'train.{near[0]}'?" if near else ""
            raise UserError(f"{origin}:\n  train.{key}: unknown key, also to TrainingArguments.{hint}")
        try:
            TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{origin}:\n  train.{key}: {error.errors()[0]['msg']}, but it is {value!r}") from error
