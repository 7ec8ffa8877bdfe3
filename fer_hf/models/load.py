"""Load an image classifier to train: from the Hub, from timm, from a folder, from a file, or with random weights.

Labels travel by name: a checkpoint whose labels cover the wanted ones keeps the rows of its head, in the wanted order;
any other gets a new head. Input size, mean and std end up where `AutoImageProcessor` finds them again.
"""

import errno
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from PIL import Image
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    TimmWrapperConfig,
    TimmWrapperImageProcessor,
    ViTImageProcessor,
)

from fer_hf.emotions import LabelError, align
from fer_hf.errors import FerError, UserError
from fer_hf.files import write_text
from fer_hf.images.spec import ImageSpec
from fer_hf.models.attention import EmotionAttentionConfig, EmotionAttentionForImageClassification
from fer_hf.models.network import head_names, heads, initialise_head, network, select_outputs, without_prefix
from fer_hf.models.resolve import Source, resolve
from fer_hf.models.weights import fill
from fer_hf.runs.folder import Run

CONTAMINATED = "dima806/facial_emotions_image_detection"
CONTAMINATION_NOTE = (
    f"`{CONTAMINATED}` was very probably trained on FER2013's own test images (its card reports a balanced test "
    "set with disgust recall 1.0, which fits over-sampling before the split). FER2013 scores that start from it are "
    "inflated; compare with a control from `google/vit-base-patch16-224-in21k`."
)
OTHERS = "Take another network, such as timm/resnet18.a1_in1k or timm/efficientnet_b0.ra_in1k."
OURS = {
    **{name: f"use model.{name}" for name in ("drop_rate", "drop_path_rate", "pretrained")},
    "img_size": "use model.image_size",
    "num_classes": "the labels decide it",
    "in_chans": "images have three channels",
    "checkpoint_path": "use model.weights",
}
"""Arguments of timm's constructor that `model.args` may not hold, and why."""
NEW, KEPT = "new (random weights)", "kept, rows by name"


@dataclass
class Loaded:
    """A model, its image processor, and what there is to say about them."""

    model: PreTrainedModel
    processor: Any
    base_model: str | None
    """Hub id of the weights it starts from; None for random weights or a folder."""
    head: str
    """Where the classifier's weights come from, in words."""
    notes: list[str] = field(default_factory=list)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels in the order of the logits."""
        return labels_of(self.model.config)


@dataclass(frozen=True)
class ModelOptions:
    """How `load_model` changes a model; the keys of a recipe's section `model` beside its name."""

    pretrained: bool = True
    """False draws random weights from torch's global generator (timm's own scheme for timm models)."""
    image_size: int | None = None
    """Height and width of the input in pixels; None: the model's own."""
    drop_rate: float = 0.0
    """Dropout before the classifier, of timm models only."""
    drop_path_rate: float = 0.0
    """Stochastic depth, of timm models only."""
    attention: bool = False
    """Put squeeze-excite and CBAM between a timm model and a new classifier."""
    weights: str | None = None
    """A state dict for a timm architecture, instead of timm's weights (see `weights.fill`)."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of timm's constructor, such as `{"pad_type": "same"}`."""
    mean: Sequence[float] | None = None
    """Of each channel, of images in [0, 1]; None: what the model was trained with. `std` likewise."""
    std: Sequence[float] | None = None

    @property
    def timm_arguments(self) -> dict[str, Any]:
        """What timm's constructor is given: `args`, and the rates that are not zero."""
        rates = {name: rate for name in ("drop_rate", "drop_path_rate") if (rate := getattr(self, name))}
        return dict(self.args) | rates

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """`mean` and `std`, those that are given."""
        return {name: list(values) for name in ("mean", "std") if (values := getattr(self, name)) is not None}


def labels_of(config: Any) -> tuple[str, ...]:
    """Names of the labels of a transformers config in the order of the logits; PVT's may have none."""
    names = config.id2label or {}
    return tuple(str(names[i]) for i in range(len(names)))


def load_model(name: str | Path | Run, labels: Sequence[str] | None = None, **options: Any) -> Loaded:
    """Load an image classifier for the emotions `labels`, or with its own labels when `labels` is None.

    Args:
        name: Hub id, `timm/<name>`, bare timm name, run, run folder or model folder.
        labels: canonical emotion names, in the order that the logits get.
        options: fields of `ModelOptions`, such as `pretrained=False` and `image_size=64`.

    Returns:
        The model, its image processor, and notes about them.

    Raises:
        UserError: the model cannot be found, is no image classifier, or its labels or input size do not fit.

    Example:
        >>> loaded = load_model("test_resnet", ("happy", "sad"), pretrained=False, image_size=32)
        >>> loaded.label_names, loaded.head
        (('happy', 'sad'), 'new (random weights)')
    """
    settings, source = ModelOptions(**options), resolve(name)
    try:
        loaded = _load(source, labels, settings)
        return _with_attention(loaded, source) if settings.attention else loaded
    except UserError:
        raise
    except TypeError as error:  # of timm's constructors, which do not all take the same
        if not settings.timm_arguments:
            raise
        places = {name: f"model.{'args.' * (name in settings.args)}{name}" for name in settings.timm_arguments}
        keys = " or ".join(places.values())
        raise UserError(f"{source.name!r} does not take {keys}: {error}.") from error
    except RuntimeError as error:  # of timm's constructors, under the way in which transformers calls them
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"transformers {transformers.__version__} cannot load {source.name!r}: {reason} {OTHERS}"
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        reason = str(error).strip().splitlines()[0]
        if source.folder:
            raise UserError(f"The model in {source.name!r} could not be loaded: {reason}") from error
        near = get_close_matches(source.name.removeprefix("timm/").split(".")[0], timm.list_models(), n=3)
        hint = f" timm models of a similar name: {', '.join(near)}." if near else ""
        message = f"The model {source.name!r} could not be loaded: neither as a folder, nor from timm or the Hub: "
        raise UserError(message + reason + hint) from error


def _load(source: Source, labels: Sequence[str] | None, options: ModelOptions) -> Loaded:
    """The model before attention is put into it: a checkpoint in a folder or on the Hub, or random weights."""
    random = not options.pretrained or bool(options.weights)
    fresh = random and source.timm_name is not None
    name = repr(source.name)
    if options.weights and not fresh:
        raise UserError(f"model.weights fills a timm architecture: {name} is none, set model.name to a timm name.")
    if fresh and labels is None:
        raise UserError(f"{name} would start from random weights, so it has no labels of its own: name a label set.")
    config = _timm_config(str(source.timm_name)) if fresh else load_config(source)
    if getattr(config, "architecture", "").startswith("swin"):
        # timm masks shifted windows by tensors that are in no file, and transformers 4.57 loads a model without values
        # for them. Then they are made for each batch.
        config.model_args = (config.model_args or {}) | {"strict_img_size": False}
    known = () if fresh else labels_of(config)
    wanted = emotions_of(source, config) if labels is None else labels
    rows = [] if random else _rows_by_name(known, wanted)
    if not rows:
        _name_labels(config, wanted)
    processor_changes = _resize_config(config, source, options.image_size, random)
    _set_arguments(config, source, options)
    processor_changes |= _set_normalisation(config, options)
    processor = load_processor(source, config, **processor_changes)
    model = _random(config) if random else _pretrained(source.location, config)
    if not rows:
        initialise_head(model)
    if rows and list(known) != list(wanted):
        _select_head_rows(model, rows, wanted)
    published = None if source.folder or random else source.location
    notes = [CONTAMINATION_NOTE] if published == CONTAMINATED else []
    if options.weights:
        notes.append(fill(network(model), Path(options.weights)))
    return Loaded(model, processor, published, KEPT if rows else NEW, notes)


def _name_labels(config: Any, labels: Sequence[str]) -> None:
    """Name the logits in a config; a loaded timm config holds the names a second time, as `label_names`."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    if hasattr(config, "label_names"):
        config.label_names = list(labels)
    if "num_labels" in vars(config):  # of its own, as PVT's in transformers 5; elsewhere it follows from the names
        config.num_labels = len(labels)


def _timm_config(name: str) -> TimmWrapperConfig:
    """The config of a timm architecture without weights; of timm's settings only those that the input follows from."""
    keys = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "fixed_input_size")
    cfg: Any = timm.get_pretrained_cfg(name)
    settings = json.dumps({key: value for key, value in cfg.to_dict().items() if key in keys})
    return TimmWrapperConfig(architecture=name, pretrained_cfg=json.loads(settings))


def _random(config: Any) -> PreTrainedModel:
    """The model of `config` with random weights, those of timm by timm's own scheme."""
    model = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    if isinstance(config, TimmWrapperConfig):
        # The wrapper draws linear (and in transformers 5 all) layers at std 0.02, which convolutions do not survive.
        arguments = {"num_classes": config.num_labels} | (config.model_args or {})
        network(model).load_state_dict(timm.create_model(config.architecture, **arguments).state_dict())
    return model


def _with_attention(loaded: Loaded, source: Source) -> Loaded:
    """The backbone of a loaded timm model under new attention; what has it already is left as it is."""
    if isinstance(loaded.model, EmotionAttentionForImageClassification):
        return loaded
    timm_config: Any = loaded.model.config
    if not isinstance(timm_config, TimmWrapperConfig):
        raise UserError(f"model.attention goes on top of timm models: {source.name!r} is none, leave it out.")
    args: dict[str, Any] = dict(timm_config.model_args or {})
    config = EmotionAttentionConfig(timm_config.architecture, args, args.pop("drop_rate", 0.0))
    _name_labels(config, loaded.label_names)
    images: dict[str, Any] = loaded.processor.data_config
    model = EmotionAttentionForImageClassification(config)
    features = model.eval().backbone(torch.zeros(1, *images["input_size"]))
    if features.shape[1:-2] != (heads(model)[0].in_features,):
        raise UserError(f"model.attention needs the feature map of a convolutional network: {source.name!r} has none.")
    model.backbone.load_state_dict(network(loaded.model).state_dict(), strict=False)  # but its classifier
    initialise_head(model)
    size = dict(zip(("height", "width"), images["input_size"][-2:], strict=True))
    resample = Image.Resampling[images["interpolation"].upper()]
    mean, std = list(images["mean"]), list(images["std"])
    processor = ViTImageProcessor(size=size, resample=resample, image_mean=mean, image_std=std, do_convert_rgb=True)
    return Loaded(model, processor, loaded.base_model, NEW, loaded.notes)


def load_config(source: Source) -> Any:
    """The config of a checkpoint in a folder or on the Hub, timm's included."""
    return AutoConfig.from_pretrained(source.location, trust_remote_code=False)


def load_processor(source: Source, config: Any, **changes: Any) -> Any:
    """The image processor of a checkpoint; timm's is made from the config."""
    if isinstance(config, TimmWrapperConfig):
        return TimmWrapperImageProcessor(pretrained_cfg=config.pretrained_cfg, architecture=config.architecture)
    return AutoImageProcessor.from_pretrained(source.location, trust_remote_code=False, **changes)


def emotions_of(source: Source, config: Any) -> tuple[str, ...]:
    """The labels of a checkpoint, in its order. Raises `UserError` when they are no emotions."""
    labels = labels_of(config)
    if not _rows_by_name(labels, labels):
        names = f"({', '.join(labels[:4])}, ...)"
        raise UserError(f"{source.name!r} does not name emotions {names}: fine-tune it with `fer-hf train` first.")
    return labels


def _rows_by_name(known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where each wanted emotion is among the labels of a checkpoint; nowhere unless all of them are there."""
    try:
        return align(known, wanted)
    except LabelError:
        return []


def _set_arguments(config: Any, source: Source, options: ModelOptions) -> None:
    """Write arguments of timm's constructor into the config of a timm model, bare or under attention."""
    arguments = options.timm_arguments
    for name in options.args.keys() & OURS.keys():
        raise UserError(f"model.args.{name} is set by fer_hf: {OURS[name]}.")
    if isinstance(config, EmotionAttentionConfig):
        config.drop_rate = arguments.pop("drop_rate", config.drop_rate)
    if arguments and not hasattr(config, "model_args"):
        key = "args" if options.args else next(iter(arguments))
        raise UserError(f"model.{key} is for timm models; {source.name!r} has what it is made with in its own config.")
    if arguments:
        config.model_args = (config.model_args or {}) | arguments


def _set_normalisation(config: Any, options: ModelOptions) -> dict[str, Any]:
    """Write another mean and std into the config of a timm model; returns what any other processor has to be told."""
    if isinstance(config, TimmWrapperConfig):
        config.pretrained_cfg = config.pretrained_cfg | options.normalisation
        return {}
    return {f"image_{name}": values for name, values in options.normalisation.items()}


def _resize_config(config: Any, source: Source, size: int | None, random: bool) -> dict[str, Any]:
    """Write another image size into `config`; returns what the processor has to be told."""
    if size is None:
        return {}
    if isinstance(config, TimmWrapperConfig):
        fixed, (*_, height, width) = config.pretrained_cfg.get("fixed_input_size"), config.pretrained_cfg["input_size"]
        if fixed and random:
            config.model_args = (config.model_args or {}) | {"img_size": size}
        elif fixed and (height, width) != (size, size):
            raise UserError(f"{source.name!r} takes {width} pixels only: leave model.image_size out.")
        config.pretrained_cfg = config.pretrained_cfg | {"input_size": [3, size, size], "crop_pct": 1.0}
        return {}
    if getattr(config, "image_size", None) is not None:
        config.image_size = size
    processor = load_processor(source, config)
    both = {"height": size, "width": size}
    changes = {"size": {"shortest_edge": size} if dict(processor.size).get("shortest_edge") else both}
    return changes | ({"crop_size": both} if getattr(processor, "crop_size", None) else {})


def _pretrained(name: str, config: Any) -> PreTrainedModel:
    """Weights into the model of `config`; only the head may be new."""
    # Without a dtype, transformers 5 would keep the precision of the file.
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "trust_remote_code": False}
    model, info = AutoModelForImageClassification.from_pretrained(
        name, ignore_mismatched_sizes=True, output_loading_info=True, **options
    )
    of_head = set(map(without_prefix, head_names(model)))
    new = {item[0] if isinstance(item, tuple) else item for item in [*info["missing_keys"], *info["mismatched_keys"]]}
    random = sorted(key for key in new if without_prefix(key) not in of_head)
    if random:
        hint = " Its positions are for one image size: leave model.image_size out." if "position" in random[0] else ""
        raise UserError(f"The weights of {name!r} do not fit: {', '.join(random[:3])} would be random.{hint}")
    return model


def _select_head_rows(model: Any, rows: list[int], labels: Sequence[str]) -> None:
    """Keep these rows of the classifiers, in this order, and name them."""
    select_outputs(model, rows)
    model.num_labels = len(rows)
    _name_labels(model.config, labels)
    if isinstance(model.config, TimmWrapperConfig):
        model.timm_model.num_classes = len(rows)


def check_loads_again(loaded: Loaded, folder: Path) -> None:
    """Save a model, load it as `pipeline` would, and compare what both say.

    Some architectures keep tensors that are in no file and that transformers does not make again: what was trained for
    hours would be lost. Global generators of random numbers are left as they are.

    Args:
        loaded: the model, on the CPU; is put into evaluation mode.
        folder: is made for this, and removed.

    Raises:
        UserError: it cannot be loaded again, or answers otherwise; says why.
        FerError: the disk is full, or the folder cannot be written.
    """
    model, size = loaded.model.eval(), ImageSpec.from_processor(loaded.processor).size
    pixel_values = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            save_model(model, loaded.processor, folder)
            again = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
            answers = [
                {"logits": m(pixel_values=pixel_values).logits} | dict(m.named_buffers()) for m in (model, again)
            ]
        reason = _difference(*answers)
    except (OSError, SafetensorError) as error:
        raise FerError(f"A model could not be written to {folder.parent} and read: {error}") from error
    except Exception as error:  # of timm and transformers, each in a class of its own
        reason = " ".join(str(error).split()) or type(error).__name__
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if reason:
        raise UserError(
            f"This network is not trained: transformers {transformers.__version__} could not load again what it saves "
            f"({reason[:200]}). {OTHERS}"
        )


def _difference(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> str:
    """How a model that was loaded again differs, in words; empty when it does not."""
    for name, expected in before.items():
        found = after.get(name)
        if found is None or found.shape != expected.shape:
            return f"{name} is missing or of another shape"
        if not torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-5, equal_nan=True):
            return f"{name} differs by {(found.float() - expected.float()).abs().max():.2g}"
    return ""


def save_model(model: PreTrainedModel, processor: Any, folder: Path) -> None:
    """Write config.json, model.safetensors and the settings of the processor, so that `pipeline(model=folder)` works.

    Args:
        model: from `load_model`, trained or not.
        processor: its image processor.
        folder: is made when it is not there.
    """
    model.save_pretrained(folder)
    if not isinstance(processor, TimmWrapperImageProcessor):  # whose settings are in the model's config.json
        processor.save_pretrained(folder)
    # timm configs keep only `label_names`; ONNX Runtime's classes read `id2label`, and die without it.
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    labels = labels_of(model.config)
    config |= {"id2label": {str(i): label for i, label in enumerate(labels)}, "label2id": model.config.label2id}
    if "num_labels" in signature(type(model.config).__init__).parameters:  # PVT would have 1000 otherwise
        config["num_labels"] = len(labels)
    write_text(path, json.dumps(config, indent=2) + "\n")
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(path, weights)  # safetensors lets nobody but the owner read them
