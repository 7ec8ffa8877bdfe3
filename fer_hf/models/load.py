"""One function loads them all: Hub checkpoints, timm models through transformers, local folders, files, random weights.

Labels travel by name: a checkpoint whose own labels cover the wanted ones keeps their head rows, in the wanted order;
any other gets a new head. Input size, mean and std end up where `AutoImageProcessor` finds them again.
"""

import errno
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import timm
import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    TimmWrapperImageProcessor,
    ViTImageProcessor,
)

from fer_hf.emotions import LabelError, align
from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.models.attention import EmotionAttentionConfig, EmotionAttentionForImageClassification
from fer_hf.models.network import head_of
from fer_hf.models.weights import fill

CONTAMINATED = "dima806/facial_emotions_image_detection"


CONTAMINATION_NOTE = (
    f"`{CONTAMINATED}` was very probably trained on FER2013's own test images (its card reports a balanced test "
    "set with disgust recall 1.0, which fits over-sampling before the split). FER2013 scores that start from it are "
    "inflated; compare with a control from `google/vit-base-patch16-224-in21k`."
)


@dataclass
class Loaded:
    """A model, its image processor, and what there is to say about them."""

    model: PreTrainedModel
    processor: Any
    base_model: str | None
    """Hub id of the weights it starts from; None for random weights or an unpublished folder."""
    head: str
    """Where the classifier's weights come from, in words."""
    notes: list[str] = field(default_factory=list)

    @property
    def label_names(self) -> tuple[str, ...]:
        return labels_of(self.model.config)


def labels_of(config: Any) -> tuple[str, ...]:
    """Label names of a config in the order of the logits."""
    return tuple(str(config.id2label[i]) for i in range(len(config.id2label)))


def load_model(
    name: str,
    labels: Sequence[str] | None = None,
    *,
    pretrained: bool = True,
    image_size: int | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    attention: bool = False,
    weights: str | None = None,
) -> Loaded:
    """Load an image classifier for the emotions `labels`, or with its own labels when `labels` is None.

    Args:
        name: Hub id, `timm/<name>`, bare timm name, run folder or model folder.
        labels: canonical emotion names; the order of the logits.
        pretrained: False draws random weights from torch's global generator (timm's own scheme for timm models).
        image_size: input height and width in pixels, instead of the model's own.
        drop_rate, drop_path_rate: dropout before the classifier and stochastic depth, both timm models only.
        attention: put squeeze-excite and CBAM between a timm model and a new classifier.
        weights: a state dict for the timm architecture `name`, instead of timm's weights (see `weights.fill`).

    Raises `UserError` when the model cannot be found, is no image classifier, or its labels or input size do not fit.
    """
    folder = Path(name)
    if (folder / "model" / "config.json").is_file():
        name = str(folder / "model")
    elif folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{name!r} holds no model: there is no config.json in it, nor in its model/ folder.")
    dropout = {k: v for k, v in {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}.items() if v}
    timm_name = name.removeprefix("timm/")
    is_timm = not Path(name).is_dir() and timm.is_model(timm_name)
    if weights and not is_timm:
        raise UserError(f"model.weights fills a timm architecture: {name!r} is none, set model.name to a timm name.")
    random = is_timm and (bool(weights) or not pretrained)
    cfg = timm.get_pretrained_cfg(timm_name) if is_timm else None
    hub_id = cfg.hf_hub_id if cfg else name
    if not hub_id and not random:
        raise UserError(f"timm has no weights for {timm_name!r}: choose another tag, or set model.pretrained=false.")
    try:
        if random:
            if labels is None:
                raise UserError(
                    f"{name!r} would start from random weights, so it has no labels of its own: name a label set."
                )
            loaded = _random_timm(timm_name, labels, image_size, dropout)
        else:
            loaded = _load_hub(str(hub_id), labels, pretrained, image_size, dropout)
        if weights:
            loaded.notes.append(fill(cast(Any, loaded.model).timm_model, head_of(loaded.model), Path(weights)))
        return _with_attention(loaded, name) if attention else loaded
    except TypeError as error:  # of timm's constructors, which do not all take both
        if dropout:
            raise UserError(f"{name!r} does not take model.{' or model.'.join(dropout)}: {error}.") from error
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            raise
        near = get_close_matches(timm_name.split(".")[0], timm.list_models(), n=3)
        hint = f" timm models of a similar name: {', '.join(near)}." if near else ""
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"The model {name!r} could not be loaded: neither as a folder, nor from timm or the Hub: {reason}{hint}"
        ) from error


def _id2label(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def _name_labels(config: Any, labels: Sequence[str]) -> None:
    """Name the logits in a config; a loaded timm config holds the names a second time, as `label_names`."""
    for key, value in _id2label(labels).items():
        setattr(config, key, value)
    if hasattr(config, "label_names"):
        config.label_names = list(labels)


def _random_timm(name: str, labels: Sequence[str], image_size: int | None, dropout: dict[str, float]) -> Loaded:
    """A timm architecture with timm's own random initialisation."""
    cfg: Any = timm.get_pretrained_cfg(name)
    keys = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "fixed_input_size")
    settings = {k: v for k, v in cfg.to_dict().items() if k in keys}
    extra: dict[str, Any] = dict(dropout)
    if image_size:
        settings |= {"input_size": [3, image_size, image_size], "crop_pct": 1.0}
        if cfg.fixed_input_size:
            extra["img_size"] = image_size
    config = TimmWrapperConfig(
        architecture=name,
        pretrained_cfg=json.loads(json.dumps(settings)),
        model_args=extra or None,
        **_id2label(labels),
    )
    model = TimmWrapperForImageClassification(config)
    # The wrapper draws linear (and in transformers 5 all) layers anew at std 0.02, which convolutions do not survive.
    model.timm_model.load_state_dict(timm.create_model(name, num_classes=len(labels), **extra).state_dict())
    processor = TimmWrapperImageProcessor(pretrained_cfg=config.pretrained_cfg, architecture=name)
    return Loaded(model, processor, None, "new (random weights)")


def _with_attention(loaded: Loaded, name: str) -> Loaded:
    """The backbone of a loaded timm model under new attention; what has it already is left as it is."""
    if isinstance(loaded.model, EmotionAttentionForImageClassification):
        return loaded
    own: Any = loaded.model.config
    if not isinstance(own, TimmWrapperConfig):
        raise UserError(f"model.attention goes on top of timm models: {name!r} is none, leave it out.")
    args: dict[str, Any] = dict(own.model_args or {})
    rate = args.pop("drop_rate", 0.0)
    config = EmotionAttentionConfig(own.architecture, args, rate, **_id2label(loaded.label_names))
    seen: dict[str, Any] = loaded.processor.data_config
    model = EmotionAttentionForImageClassification(config)
    features = model.eval().backbone(torch.zeros(1, *seen["input_size"]))
    if features.shape[1:-2] != (head_of(model).in_features,):
        raise UserError(f"model.attention needs the feature map of a convolutional network: {name!r} has none.")
    model.backbone.load_state_dict(cast(Any, loaded.model).timm_model.state_dict(), strict=False)  # but its classifier
    processor = ViTImageProcessor(
        size=dict(zip(("height", "width"), seen["input_size"][-2:], strict=True)),
        resample=Image.Resampling[seen["interpolation"].upper()],
        image_mean=list(seen["mean"]),
        image_std=list(seen["std"]),
        do_convert_rgb=True,
    )
    return Loaded(model, processor, loaded.base_model, "new (random weights)", loaded.notes)


def _load_hub(
    name: str, labels: Sequence[str] | None, pretrained: bool, image_size: int | None, dropout: dict[str, float]
) -> Loaded:
    """A checkpoint in a folder or on the Hub, timm's included."""
    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    own = labels_of(config)
    keeps_head = pretrained and (labels is None or _covers(own, labels))
    if labels is None and not _covers(own, own):
        raise UserError(
            f"{name!r} does not name emotions ({', '.join(own[:4])}, ...): fine-tune it with `fer-hf train` first."
        )
    changes: dict[str, Any] = {} if keeps_head else {"num_labels": len(labels or own), **_id2label(labels or own)}
    if not keeps_head:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **changes)
        _name_labels(config, labels or own)
    is_timm = isinstance(config, TimmWrapperConfig)
    processor_changes = _resize_config(config, name, image_size, is_timm)
    if isinstance(config, EmotionAttentionConfig):
        config.drop_rate = dropout.pop("drop_rate", config.drop_rate)
    if dropout and hasattr(config, "model_args"):
        config.model_args = (config.model_args or {}) | dropout
    elif dropout:
        raise UserError(f"model.{next(iter(dropout))} is for timm models; {name!r} has its dropout in its own config.")
    if is_timm:
        processor = TimmWrapperImageProcessor(pretrained_cfg=config.pretrained_cfg, architecture=config.architecture)
    else:
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False, **processor_changes)
    model = (
        _pretrained(name, config)
        if pretrained
        else AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    )
    if not keeps_head and len(own) == len(labels or own):
        head_of(model).reset_parameters()  # as many outputs, but for something else: these rows were loaded
    if keeps_head and labels is not None and list(own) != list(labels):
        _select_head_rows(model, align(own, labels), labels)
    published = None if Path(name).is_dir() or not pretrained else name
    notes = [CONTAMINATION_NOTE] if published == CONTAMINATED else []
    return Loaded(model, processor, published, "kept, rows by name" if keeps_head else "new (random weights)", notes)


def _covers(own: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether every wanted emotion is among a checkpoint's own labels."""
    try:
        align(own, wanted)
    except LabelError:
        return False
    return True


def _resize_config(config: Any, name: str, size: int | None, is_timm: bool) -> dict[str, Any]:
    """Write an own image size into `config`; returns what the processor has to be told."""
    if size is None:
        return {}
    if is_timm:
        settings = dict(config.pretrained_cfg)
        if settings.get("fixed_input_size") and list(settings["input_size"][-2:]) != [size, size]:
            raise UserError(f"{name!r} takes {settings['input_size'][-1]} pixels only: leave model.image_size out.")
        config.pretrained_cfg = settings | {"input_size": [3, size, size], "crop_pct": 1.0}
        return {}
    if getattr(config, "image_size", None) is not None:
        config.image_size = size
    processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    key = "shortest_edge" if dict(processor.size).get("shortest_edge") else None
    changes: dict[str, Any] = {"size": {key: size} if key else {"height": size, "width": size}}
    if getattr(processor, "crop_size", None):
        changes["crop_size"] = {"height": size, "width": size}
    return changes


def _pretrained(name: str, config: Any) -> PreTrainedModel:
    """Weights into the model of `config`; only the head may be new."""
    model, info = AutoModelForImageClassification.from_pretrained(
        name,
        config=config,
        dtype=torch.float32,  # transformers 5 would keep the precision of the file
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    own = {id(p) for p in head_of(model).parameters()}
    head_keys = {key for key, p in model.named_parameters() if id(p) in own}
    new = {item[0] if isinstance(item, tuple) else item for item in [*info["missing_keys"], *info["mismatched_keys"]]}
    bare = {key.removeprefix("timm_model.") for key in head_keys}
    foreign = sorted(key for key in new if key.removeprefix("timm_model.") not in bare)
    if foreign:
        hint = " Its positions are for one image size: leave model.image_size out." if "position" in foreign[0] else ""
        raise UserError(f"The weights of {name!r} do not fit: {', '.join(foreign[:3])} would be random.{hint}")
    return model


def _select_head_rows(model: PreTrainedModel, rows: list[int], labels: Sequence[str]) -> None:
    """Keep these rows of the classifier, in this order, and name them."""
    head, wrapper = head_of(model), cast(Any, model)
    with torch.no_grad():
        head.weight = nn.Parameter(head.weight[rows].clone())
        if head.bias is not None:
            head.bias = nn.Parameter(head.bias[rows].clone())
    head.out_features = len(rows)
    _name_labels(model.config, labels)
    wrapper.num_labels = len(rows)
    if hasattr(wrapper, "timm_model"):
        wrapper.timm_model.num_classes = len(rows)


def save_model(model: PreTrainedModel, processor: Any, folder: Path, state_dict: dict[str, Any] | None = None) -> None:
    """Write config.json, model.safetensors and the processor's settings, so that `pipeline(model=folder)` works.

    `state_dict` has the whole weights of a model that is sharded.
    """
    model.save_pretrained(folder, state_dict=state_dict)
    if not isinstance(processor, TimmWrapperImageProcessor):  # whose settings are in the model's config.json
        processor.save_pretrained(folder)
    # timm configs keep only `label_names`; ONNX Runtime's classes read `id2label`, and die without it.
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    labels = labels_of(model.config)
    config |= {"id2label": {str(i): label for i, label in enumerate(labels)}, "label2id": model.config.label2id}
    write_text(path, json.dumps(config, indent=2) + "\n")
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(path, weights)  # safetensors lets nobody but the owner read them
