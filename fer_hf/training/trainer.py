"""A `Trainer` that transforms whole batches on the device; how it saves is in `saving`.

Each technique is switched on by a field of `TrainerParts` and lives in a module of its own; everything else (loop,
optimisers, schedules, accumulation, mixed precision, distribution) is the Trainer's.
"""

import math
import signal
from collections.abc import Callable, Sized
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from transformers import PreTrainedModel, TrainingArguments

from fer_hf.errors import FerError, UserError
from fer_hf.images.transforms import EvalTransform, TrainTransform
from fer_hf.models.network import crashes_channels_last, network, set_memory_format
from fer_hf.recipe.schema import Train
from fer_hf.training.arguments import ONE_CYCLE
from fer_hf.training.averaging import WeightAverage
from fer_hf.training.hooks import compiled
from fer_hf.training.launch import tf32
from fer_hf.training.mixing import Mix
from fer_hf.training.parameters import frozen_batch_norms, parameter_groups
from fer_hf.training.sam import ascent, moved, running_statistics_kept
from fer_hf.training.sampling import ClassBalancedSampler
from fer_hf.training.saving import SavingTrainer
from fer_hf.training.teacher import Teacher


@dataclass(frozen=True)
class TrainerParts:
    """The techniques of one stage of training, and where its best model goes.

    Args:
        settings: the section `train` of the recipe, as it is in this stage.
        best_model: folder that gets config and weights whenever the validation metric improves.
        processor: the image processor, saved beside the best model.
        eval_transform: uint8 batches to `pixel_values`.
        train_transform: the same with augmentation; None trains without any.
        train_loss: of logits `(B, C)`, hard or soft targets, and the teacher's logits or None. Evaluation takes plain
            cross-entropy, so that losses can be compared.
        sampler: of the training images; shuffled when None.
        mix: mixup or CutMix.
        teacher: sees each training batch as the student does.
    """

    settings: Train
    best_model: Path
    processor: Any
    eval_transform: EvalTransform
    train_transform: TrainTransform | None
    train_loss: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    sampler: ClassBalancedSampler | None = None
    mix: Mix | None = None
    teacher: Teacher | None = None


class FerTrainer(SavingTrainer):
    """Trains a model with the techniques of `parts`.

    Args:
        model: with the classes of the training images.
        args: from `arguments.training_arguments`.
        parts: loss, transforms and techniques. With SAM each process and each accumulated batch climbs by its own
            gradient, as in the paper; of several shapes of batches, the whole training batch alone is compiled.
        settings: other arguments of `Trainer`, such as the two datasets, whose batches are `FaceDataset`'s.
    """

    best_before: float | None = None
    """The best validation metric of earlier stages."""
    right: int | Tensor = 0
    """Training images that were classified as their label says, of `seen` ones since the last log, on this process."""
    seen = 0

    def __init__(self, model: PreTrainedModel, args: TrainingArguments, parts: TrainerParts, **settings: Any):
        super().__init__(parts.best_model, parts.processor, model=model, args=args, **settings)
        self.model: PreTrainedModel
        self.parts, self.frozen = parts, frozen_batch_norms(self.model)
        channels_last = parts.settings.channels_last
        if self.args.device.type == "cpu" and crashes_channels_last(self.model):
            channels_last = False
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        set_memory_format(self.model, self.memory_format)
        if parts.settings.ema_decay:
            self.average = WeightAverage(self.model, parts.settings.ema_decay)
            self.add_callback(self.average)
        if self.args.device.type == "cuda":  # each process drops other features; samplers draw on the CPU
            torch.cuda.manual_seed(self.args.seed + self.args.process_index)
        # Our loss is a mean over the batch: the Trainer has to divide it by the accumulation steps.
        self.model_accepts_loss_kwargs = False

    @property
    def images_per_step(self) -> int:
        """The images that the optimiser sees in a step, of all processes and accumulated batches."""
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimiser of the arguments on our groups of parameters."""
        if self.optimizer is None:
            train = self.parts.settings
            optimizer, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            if optimizer is torch.optim.SGD:
                settings |= {"momentum": train.momentum, "nesterov": train.momentum > 0}
            rates = (train.learning_rate, train.weight_decay, train.head_learning_rate, train.layer_decay)
            self.optimizer = optimizer(parameter_groups(self.model, *rates), **settings)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The Trainer's, or one-cycle (arXiv 1708.07120) of the rate, with each group's own as its peak."""
        if self.parts.settings.lr_scheduler_type == ONE_CYCLE and self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            if num_training_steps < 4:
                raise UserError(f"train.lr_scheduler_type=one_cycle needs 4 steps or more, not {num_training_steps}.")
            warm_up = min(max(self.args.get_warmup_steps(num_training_steps), 2), num_training_steps - 2)
            rates, share = [group["lr"] for group in optimizer.param_groups], warm_up / num_training_steps
            self.lr_scheduler: Any = OneCycleLR(
                optimizer, rates, num_training_steps, pct_start=share, cycle_momentum=False
            )
        return super().create_scheduler(num_training_steps, optimizer)

    @property
    def last_is_alone(self) -> bool:
        """Whether an epoch's last batch would be a single image, of which batch norm has no statistics: it is left out.

        Several processes fill up their last batches from the beginning of the epoch.
        """
        images, size = len(cast(Sized, self.train_dataset)), self.args.train_batch_size
        return self.args.world_size == 1 and images > size > 1 and images % size == 1

    def get_train_dataloader(self) -> Any:
        """The Trainer's; its workers leave SIGTERM, which a scheduler sends to them too, to the main process."""
        asked = self.parts.settings.passed_through.get("dataloader_drop_last", False)
        self.args.dataloader_drop_last = asked or self.last_is_alone  # of an evaluation it would drop images, too
        loader = self._exact(super().get_train_dataloader())
        self.args.dataloader_drop_last = False
        if not len(loader):
            size, images = self.args.train_batch_size * self.args.world_size, len(cast(Sized, self.train_dataset))
            raise UserError(f"train.dataloader_drop_last=true leaves nothing of {images} images in batches of {size}.")
        workers = getattr(loader, "base_dataloader", loader)
        workers.worker_init_fn = partial(_start_worker, workers.worker_init_fn)
        return loader

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's."""
        return self._exact(super().get_eval_dataloader(*args, **kwargs))

    def _exact(self, loader: Any) -> Any:
        """A loader that draws nothing from torch's global generator when workers stay for several epochs.

        It does so when it starts them: on a resume once more, and dropout would go on with other numbers.
        """
        if self.args.dataloader_persistent_workers:
            getattr(loader, "base_dataloader", loader).generator = torch.Generator().manual_seed(self.args.seed)
        return loader

    def train_sampler(self, train_dataset: Any = None) -> Any:
        """The sampler of the parts, or the Trainer's, which shuffles."""
        return self.parts.sampler or super().train_sampler(train_dataset)

    def logged_learning_rate(self) -> float:
        """The highest of all groups, which is the one of the recipe."""
        return max(float(group["lr"]) for group in cast(torch.optim.Optimizer, self.optimizer).param_groups)

    def load_checkpoint(self, folder: str, model: Any = None) -> None:
        """The weights of a checkpoint, and their average."""
        super().load_checkpoint(folder, model)
        if self.average:
            self.average.load(Path(folder), self.args.device)

    def prepare_batch(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Pixels and targets on the device; in training augmented, mixed, and seen by the teacher."""
        if "pixel_values" in inputs:  # SAM looks at one batch twice
            return inputs
        inputs, parts, training = super().prepare_batch(inputs), self.parts, self.model.training
        images, targets = inputs["images"], inputs["labels"]
        if training and parts.train_transform:
            pixel_values = parts.train_transform(images, inputs["index"], epoch=int(self.state.epoch or 0))
        else:
            pixel_values = parts.eval_transform(images)
        if training:
            targets = inputs.get("soft_labels", targets)
            if parts.mix:
                pixel_values, targets = parts.mix(pixel_values, targets, self.state.global_step, inputs["index"][0])
        batch = {"pixel_values": pixel_values.contiguous(memory_format=self.memory_format), "labels": targets}
        if training and parts.teacher:
            with self.accelerator.autocast():
                batch["teacher_logits"] = parts.teacher(batch["pixel_values"])
        return batch

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """The Trainer's, or SAM's: up by the gradient of a first pass, then the gradient there. Returns the loss here.

        Raises `FerError` when the loss is not finite: on a CPU before the optimiser moves, on a GPU at the next log.
        """
        model.train()
        inputs = self.prepare_batch(inputs)
        train = self.parts.settings
        if not train.sam_rho:
            return self.finite(super().training_step(model, inputs, num_items_in_batch))
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        accumulated = [parameter.grad for parameter in learning]  # of earlier batches of this step
        self.model.zero_grad()
        with self.accelerator.no_sync(model):
            loss = self.finite(super().training_step(model, inputs, num_items_in_batch))
        used = [parameter for parameter in learning if parameter.grad is not None]
        step = ascent(used, train.sam_rho, train.sam_adaptive)
        for parameter, gradient in zip(learning, accumulated, strict=True):
            parameter.grad = gradient
        counted = self.right, self.seen
        with moved(used, step), running_statistics_kept(self.model):
            super().training_step(model, inputs, num_items_in_batch)
        self.right, self.seen = counted  # the weights up there are not those of the model
        return loss

    def finite(self, loss: Tensor) -> Tensor:
        """The loss, checked. On a GPU only when it is logged: to read it is to wait until the step is done."""
        step = self.state.global_step + 1
        is_read = loss.device.type == "cpu" or step % self.args.logging_steps == 0
        if is_read and not math.isfinite(loss.item()):
            raise self.diverged(f"the loss of step {step} is {loss.item()}")
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the parts in training; plain cross-entropy in evaluation."""
        training = self.model.training
        for norm in self.frozen if training else ():
            norm.eval()
        is_whole = training and len(inputs["labels"]) == self.args.train_batch_size
        as_it_is = self.parts.settings.torch_compile and not is_whole
        with torch.compiler.set_stance("force_eager") if as_it_is else nullcontext():
            outputs = model(pixel_values=inputs["pixel_values"])
        logits, targets, teacher = outputs.logits.float(), inputs["labels"], inputs.get("teacher_logits")
        loss = self.parts.train_loss(logits, targets, teacher) if training else F.cross_entropy(logits, targets)
        if training and targets.ndim == 1:
            self.right = self.right + (logits.detach().argmax(dim=1) == targets).sum()
            self.seen += len(targets)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's; beside the loss stands the accuracy of the training images since the last log."""
        counted = "loss" in logs and self.seen > 0
        if counted:
            counts = torch.tensor([int(self.right), self.seen], device=self.args.device)
            right, seen = self.accelerator.reduce(counts).tolist()
            logs["accuracy"] = right / seen
            self.right = self.seen = 0
        super().log(logs, *args, **kwargs)
        if counted:  # not for TensorBoard, which has been told
            self.state.log_history[-1]["images"] = seen

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's; called inside training, the model is kept when it is the best so far."""
        if not self.has_best:  # it went aside, when the training went back to an earlier checkpoint
            self.state.best_metric = self.best_before = None
        with self.average.in_place_of(self.model) if self.average else nullcontext():
            if self.args.world_size > 1:  # batch norm's statistics differ among processes; the first one's are saved
                for buffer in self.model.buffers():
                    torch.distributed.broadcast(buffer, src=0)
            metrics = super().evaluate(*args, **kwargs)
            if not math.isfinite(loss := metrics["eval_loss"]):
                raise self.diverged(f"after step {self.state.global_step} the validation loss is {loss}")
            value = metrics[f"eval_{self.args.metric_for_best_model}"]
            earlier = [best for best in (self.state.best_metric, self.best_before) if best is not None]
            if all(value > best if self.args.greater_is_better else value < best for best in earlier):
                self.keep_best()
        return metrics

    def diverged(self, what: str) -> FerError:
        """The error for a loss or weights that are not finite."""
        rate = self.logged_learning_rate()
        return FerError(
            f"Training diverged: {what}, at a learning rate of {rate:.3g}. The checkpoints from before are untouched. "
            "Start again with a lower train.learning_rate, or with gradient clipping (train.max_grad_norm=1)."
        )

    def save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint; raises `FerError` instead when there are weights that are not finite."""
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise self.diverged(f"after step {self.state.global_step} there are weights that are not finite")
        super().save_checkpoint(model, trial)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, in TF32 where `args` do not decide on it, and compiled where the parts say so."""
        self.right = self.seen = 0  # of an attempt whether a batch fits
        on_gpu = self.args.device.type == "cuda" and self.args.tf32 is None
        compiles = compiled(network(self.model)) if self.parts.settings.torch_compile else nullcontext()
        with tf32() if on_gpu else nullcontext(), compiles:
            return super().train(*args, **kwargs)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: the Trainer's estimate counts tokens."""
        return 0


def _start_worker(initialise: Callable[[int], None] | None, worker: int) -> None:
    """Begin a loader's worker, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if initialise:
        initialise(worker)
