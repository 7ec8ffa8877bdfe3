"""What a `FerTrainer` is made of, beyond the arguments of `transformers.Trainer`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fer_hf.images.transforms import EvalTransform, TrainTransform
from fer_hf.training.mixing import Mix
from fer_hf.training.sampling import ClassBalancedSampler
from fer_hf.training.teacher import Teacher


@dataclass(frozen=True)
class TrainerParts:
    """The techniques of one stage of training, and where its best model goes.

    Args:
        best_model: folder that gets config and weights whenever the validation metric improves.
        processor: the image processor, saved beside the best model.
        eval_transform: uint8 batches to `pixel_values`.
        train_transform: the same with augmentation; None trains without any.
        train_loss: of logits `(B, C)`, hard or soft targets, and the teacher's logits or None. Evaluation takes plain
            cross-entropy, so that losses can be compared.
        parameter_groups: for the optimiser, as `parameters.parameter_groups` makes them.
        best_before: the best validation metric of earlier stages.
        sampler: of the training images; shuffled when None.
        mix: mixup or CutMix.
        teacher: sees each training batch as the student does.
        sam_rho: radius of sharpness-aware minimisation; 0 switches it off. Each process and each accumulated batch
            climbs by its own gradient, as in the paper.
        sam_adaptive: whether that radius is relative to each weight.
        ema_decay: of an average of the weights, which is evaluated and saved in their place; 0 switches it off.
        momentum: of SGD, Nesterov's.
        one_cycle: the one-cycle schedule in place of the one that the arguments name.
        channels_last: memory format of the convolutions' weights and inputs.
        compile: whether whole training batches go through `torch.compile`. Batches of other shapes, which would each
            take a compilation of their own, run as they are.
    """

    best_model: Path
    processor: Any
    eval_transform: EvalTransform
    train_transform: TrainTransform | None
    train_loss: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    parameter_groups: list[dict[str, Any]]
    best_before: float | None = None
    sampler: ClassBalancedSampler | None = None
    mix: Mix | None = None
    teacher: Teacher | None = None
    sam_rho: float = 0.0
    sam_adaptive: bool = False
    ema_decay: float = 0.0
    momentum: float = 0.9
    one_cycle: bool = False
    channels_last: bool = True
    compile: bool = False
