"""A `Trainer` that transforms whole batches on the device; how it saves is in `saving`.

Each technique is switched on by an argument and lives in a module of its own; everything else (loop, optimisers,
schedules, accumulation, mixed precision, distribution) is the Trainer's own.
"""

import math
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import DDPCommunicationHookType
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.optim.lr_scheduler import OneCycleLR
from transformers import PreTrainedModel

from fer_hf.errors import FerError, UserError
from fer_hf.images.transforms import EvalTransform, TrainTransform
from fer_hf.training.averaging import WeightAverage
from fer_hf.training.compiling import compiled
from fer_hf.training.launch import tf32
from fer_hf.training.losses import distillation_loss
from fer_hf.training.mixing import Mix
from fer_hf.training.parameters import frozen_batch_norms, name_blocks
from fer_hf.training.sam import ascent, moved, running_statistics_kept
from fer_hf.training.sampling import ClassBalancedSampler
from fer_hf.training.saving import SavingTrainer
from fer_hf.training.teacher import Teacher


def _start_worker(initialise: Callable[[int], None] | None, worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if initialise:
        initialise(worker)


class FerTrainer(SavingTrainer):
    """Args beyond the Trainer's own.

    Args:
        train_transform, eval_transform: uint8 batches to `pixel_values`.
        processor: saved beside the best model.
        best_model: folder that gets config and weights whenever the validation metric improves.
        train_loss: of logits `(B, C)` and hard or soft targets; evaluation takes plain cross-entropy.
        parameter_groups: for the optimiser.
        best_before: the best validation metric of an earlier stage.
        sampler: of the training set; shuffled when None.
        mix: mixup or CutMix.
        teacher, teacher_weight, temperature: distillation.
        sam_rho, sam_adaptive: sharpness-aware minimisation. Each process and each accumulated batch climbs by its own
            gradient, as in the paper.
        ema_decay: average of the weights, evaluated and saved in their place.
        momentum: of SGD, Nesterov's.
        one_cycle: instead of the schedule of the arguments; rises over their warm-up share.
        channels_last: memory format of the convolutions' weights and inputs.
        compile: whole training batches go through `torch.compile`; other shapes, which would each take a compilation
            of their own, run as they are.
        ddp_comm_hook: "fp16" or "bf16", what gradients are compressed to between processes.
    """

    def __init__(
        self,
        *args: Any,
        train_transform: TrainTransform | None,
        eval_transform: EvalTransform,
        processor: Any,
        best_model: Path,
        train_loss: Callable[[Tensor, Tensor], Tensor],
        parameter_groups: list[dict[str, Any]],
        best_before: float | None = None,
        sampler: ClassBalancedSampler | None = None,
        mix: Mix | None = None,
        teacher: Teacher | None = None,
        teacher_weight: float = 0.5,
        temperature: float = 4.0,
        sam_rho: float = 0.0,
        sam_adaptive: bool = False,
        ema_decay: float = 0.0,
        momentum: float = 0.9,
        one_cycle: bool = False,
        channels_last: bool = True,
        compile: bool = False,
        ddp_comm_hook: str = "none",
        **kwargs: Any,
    ):
        super().__init__(*args, processor=processor, best_model=best_model, **kwargs)
        self.model: PreTrainedModel
        self.train_transform, self.eval_transform = train_transform, eval_transform
        self.best_before = best_before
        self.train_loss, self.parameter_groups = train_loss, parameter_groups
        self.sampler, self.mix = sampler, mix
        self.teacher, self.teacher_weight, self.temperature = teacher, teacher_weight, temperature
        self.sam_rho, self.sam_adaptive, self.momentum, self.one_cycle = sam_rho, sam_adaptive, momentum, one_cycle
        self.ddp_comm_hook = ddp_comm_hook
        channels_last &= not self.is_fsdp_enabled  # which shards contiguous weights only
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.memory_format)
        self.compile = compile
        self.frozen = frozen_batch_norms(self.model)
        self.average = WeightAverage(self.model, ema_decay) if ema_decay else None
        if self.average:
            self.add_callback(self.average)
        if self.is_fsdp_enabled:
            name_blocks(self.model)
            if self.args.bf16:  # accelerate would add gradients up in bf16, too
                plugin: Any = self.accelerator.state.fsdp_plugin
                plugin.mixed_precision_policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32)
        if self.args.device.type == "cuda":  # each process drops other features; samplers draw on the CPU
            torch.cuda.manual_seed(self.args.seed + self.args.process_index)
        # Our loss is a mean over the batch: the Trainer has to divide it by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        if self.args.device.type == "cpu":
            # transformers 4.57 loads optimiser states to "cpu:0" under DDP, a device that torch has come to refuse.
            self.args.__dict__["_setup_devices"] = torch.device("cpu")

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimiser of the arguments on our groups of parameters."""
        if self.optimizer is None:
            optimizer, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            if {"params", "model", "optimizer_dict"} & settings.keys():
                raise UserError(f"train.optim={self.args.optim} chooses its own parameters: take adamw_torch or sgd.")
            if optimizer is torch.optim.SGD:
                settings |= {"momentum": self.momentum, "nesterov": self.momentum > 0}
            self.optimizer = optimizer(self.parameter_groups, **settings)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The Trainer's, or one-cycle (arXiv 1708.07120) of the rate, with each group's own as its peak."""
        if self.one_cycle and self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            if num_training_steps < 4:
                raise UserError(f"train.lr_scheduler_type=one_cycle needs 4 steps or more, not {num_training_steps}.")
            warm_up = min(max(self.args.get_warmup_steps(num_training_steps), 2), num_training_steps - 2)
            self.lr_scheduler: Any = OneCycleLR(
                optimizer,
                max_lr=[group["lr"] for group in optimizer.param_groups],
                total_steps=num_training_steps,
                pct_start=warm_up / num_training_steps,
                cycle_momentum=False,
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def get_train_dataloader(self) -> Any:
        """The Trainer's; its workers leave SIGTERM, which a scheduler sends to them too, to the main process."""
        loader: Any = super().get_train_dataloader()
        workers = getattr(loader, "base_dataloader", loader)
        workers.worker_init_fn = partial(_start_worker, workers.worker_init_fn)
        return loader

    def _wrap_model(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's; `accelerate` wraps for several processes after this, by the settings of its handler."""
        model = super()._wrap_model(*args, **kwargs)
        if self.ddp_comm_hook != "none" and self.accelerator.ddp_handler:
            self.accelerator.ddp_handler.comm_hook = DDPCommunicationHookType(self.ddp_comm_hook)
        return model

    def _get_learning_rate(self) -> float:
        """The highest of all groups, which is the one of the recipe: what is logged."""
        groups: Any = self.optimizer and self.optimizer.param_groups
        return max(float(group["lr"]) for group in groups)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.sampler or super()._get_train_sampler(train_dataset)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average:
            self.average.load(Path(resume_from_checkpoint), self.args.device)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Pixels and targets on the device; in training augmented, mixed, and seen by the teacher."""
        if "pixel_values" in inputs:  # SAM looks at one batch twice
            return inputs
        inputs = super()._prepare_inputs(inputs)
        images, targets = inputs["images"], inputs["labels"]
        training = self.model.training
        if training and self.train_transform:
            pixel_values = self.train_transform(images, inputs["index"], epoch=int(self.state.epoch or 0))
        else:
            pixel_values = self.eval_transform(images)
        if training:
            targets = inputs.get("soft_labels", targets)
            if self.mix:
                step = self.state.global_step
                pixel_values, targets = self.mix(pixel_values, targets, step, inputs["index"][0])
        batch = {"pixel_values": pixel_values.contiguous(memory_format=self.memory_format), "labels": targets}
        if training and self.teacher:
            with self.accelerator.autocast():
                batch["teacher_logits"] = self.teacher(batch["pixel_values"])
        return batch

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """The Trainer's, or SAM's: up by the gradient of a first pass, then the gradient there. Returns the loss here.

        Raises `FerError` when the loss is not finite: on a CPU before the optimiser moves, on a GPU at the next log.
        """
        model.train()
        inputs = self._prepare_inputs(inputs)
        if not self.sam_rho:
            return self._finite(super().training_step(model, inputs, num_items_in_batch))
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        gathered = [parameter.grad for parameter in learning]  # of earlier accumulated batches
        for parameter in learning:
            parameter.grad = None
        with self.accelerator.no_sync(model):
            loss = self._finite(super().training_step(model, inputs, num_items_in_batch))
        used = [parameter for parameter in learning if parameter.grad is not None]
        step = ascent(used, self.sam_rho, self.sam_adaptive)
        for parameter, gradient in zip(learning, gathered, strict=True):
            parameter.grad = gradient
        with moved(used, step), running_statistics_kept(self.model):
            super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _finite(self, loss: Tensor) -> Tensor:
        """The loss, looked at; on a GPU only when it is logged, since whoever looks waits until the step is done."""
        step = self.state.global_step + 1
        looked_at = loss.device.type == "cpu" or step % self.args.logging_steps == 0
        if looked_at and not math.isfinite(loss.item()):
            raise self._diverged(f"the loss of step {step} is {loss.item()}")
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the recipe in training; plain cross-entropy in evaluation, so that losses can be compared."""
        training = self.model.training
        if training:
            for norm in self.frozen:
                norm.eval()
        whole = training and len(inputs["labels"]) == self.args.train_batch_size
        with nullcontext() if whole or not self.compile else torch.compiler.set_stance("force_eager"):
            outputs = model(pixel_values=inputs["pixel_values"])
        logits = outputs.logits.float()
        loss = self.train_loss(logits, inputs["labels"]) if training else F.cross_entropy(logits, inputs["labels"])
        if training and self.teacher:
            taught = distillation_loss(logits, inputs["teacher_logits"], self.temperature)
            loss = (1 - self.teacher_weight) * loss + self.teacher_weight * taught
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's; called inside training, the model is kept when it is the best so far."""
        with self.average.in_place_of(self.model) if self.average else nullcontext():
            if self.args.world_size > 1:  # batch norm's statistics differ among processes; the first one's are saved
                for buffer in self.model.buffers():
                    torch.distributed.broadcast(buffer, src=0)
            metrics = super().evaluate(*args, **kwargs)
            if not math.isfinite(metrics["eval_loss"]):
                raise self._diverged(
                    f"after step {self.state.global_step} the validation loss is {metrics['eval_loss']}"
                )
            value = metrics[f"eval_{self.args.metric_for_best_model}"]
            earlier = [best for best in (self.state.best_metric, self.best_before) if best is not None]
            if all(value > best if self.args.greater_is_better else value < best for best in earlier):
                self._keep_best()
        return metrics

    def _diverged(self, what: str) -> FerError:
        rate = self._get_learning_rate()
        return FerError(
            f"Training diverged: {what}, at a learning rate of {rate:.3g}. The checkpoints from before are untouched. "
            "Start again with a lower train.learning_rate, or with gradient clipping (train.max_grad_norm=1)."
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise self._diverged(f"after step {self.state.global_step} there are weights that are not finite")
        super()._save_checkpoint(model, trial)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, in TF32 and compiled where that was decided on."""
        on_gpu = self.args.device.type == "cuda" and self.args.tf32 is None  # else somebody has decided
        with tf32() if on_gpu else nullcontext(), compiled(self.model) if self.compile else nullcontext():
            return super().train(*args, **kwargs)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # the Trainer's estimate counts tokens
