"""A `Trainer` that transforms whole batches on the device, checkpoints safely, and keeps the best model.

Everything else (loop, optimiser, schedules, accumulation, mixed precision, distribution) is the Trainer's own.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, Trainer

from fer_hf.errors import FerError
from fer_hf.images import EvalTransform, TrainTransform
from fer_hf.models.load import save_model
from fer_hf.run import move_into_place
from fer_hf.training.checkpoints import STAGING, publish


class FerTrainer(Trainer):
    """Args beyond the Trainer's own.

    Args:
        train_transform, eval_transform: uint8 batches to `pixel_values`.
        processor: saved beside the best model.
        best_model: folder that gets config and weights whenever the validation metric improves.
        class_weights: float `(C,)`, or None.
        label_smoothing: in [0, 1); training only, as are the weights.
        channels_last: memory format of the convolutions' weights and inputs.
    """

    def __init__(
        self,
        *args: Any,
        train_transform: TrainTransform | None,
        eval_transform: EvalTransform,
        processor: Any,
        best_model: Path,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        channels_last: bool = True,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.model: PreTrainedModel
        self.train_transform, self.eval_transform = train_transform, eval_transform
        self.processor, self.best_model = processor, best_model
        self.class_weights = None if class_weights is None else class_weights.to(self.args.device)
        self.label_smoothing = label_smoothing
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.memory_format)
        # Our loss is a mean over the batch: the Trainer has to divide it by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        if self.args.device.type == "cpu":
            # transformers 4.57 loads optimiser states to "cpu:0" under DDP, a device that torch has come to refuse.
            self.args.__dict__["_setup_devices"] = torch.device("cpu")

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        images = inputs["images"]
        if self.model.training and self.train_transform:
            pixel_values = self.train_transform(images, inputs["index"], epoch=int(self.state.epoch or 0))
        else:
            pixel_values = self.eval_transform(images)
        return {
            "pixel_values": pixel_values.contiguous(memory_format=self.memory_format),
            "labels": inputs["labels"],
        }

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross-entropy: weighted and smoothed in training, plain in evaluation, so that losses can be compared."""
        outputs = model(pixel_values=inputs["pixel_values"])
        weight, smoothing = (self.class_weights, self.label_smoothing) if self.model.training else (None, 0.0)
        loss = F.cross_entropy(outputs.logits.float(), inputs["labels"], weight=weight, label_smoothing=smoothing)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's; called inside training, the model is kept when it is the best so far."""
        if self.args.world_size > 1:  # batch norm's statistics differ among processes; the first one's are saved
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        metrics = super().evaluate(*args, **kwargs)
        if not math.isfinite(metrics["eval_loss"]):
            raise FerError(
                f"Training diverged: at step {self.state.global_step} the validation loss is {metrics['eval_loss']}. "
                "Start again with a lower train.learning_rate, or with gradient clipping (train.max_grad_norm=1)."
            )
        value, best = metrics.get(f"eval_{self.args.metric_for_best_model}"), self.state.best_metric
        if value is not None and (best is None or (value > best if self.args.greater_is_better else value < best)):
            self._keep_best()
        return metrics

    def _keep_best(self) -> None:
        """Write the model aside, then rename file by file, the weights last."""
        if not self.args.should_save:
            return
        aside = self._aside
        try:
            save_model(self.accelerator.unwrap_model(self.model), self.processor, aside)
            self.best_model.mkdir(exist_ok=True)
            for path in sorted(aside.iterdir(), key=lambda p: p.suffix == ".safetensors"):
                move_into_place(path, self.best_model / path.name)
        except Exception as error:
            raise self._not_saved("the best model", error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @property
    def _aside(self) -> Path:
        """Where the best model is written first."""
        return self.best_model.with_name(f".{self.best_model.name}")

    @property
    def _staging(self) -> Path:
        """Where checkpoints are written first."""
        return Path(str(self.args.output_dir)) / STAGING

    def clear_leftovers(self) -> None:
        """Remove what a killed process was writing. All processes call this."""
        if self.args.should_save:
            shutil.rmtree(self._aside, ignore_errors=True)
            shutil.rmtree(self._staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The Trainer's, without its search for the checkpoint of the best step: ours lies in `best_model`."""
        is_best = super()._determine_best_metric(metrics, trial)
        self.state.best_global_step = None
        return is_best

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Let the Trainer write into a staging folder, then seal it and rename it into place."""
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # every process has written its random state
            if self.args.should_save:
                staged = self._staging / f"checkpoint-{self.state.global_step}"
                publish(staged, self._staging.parent, self.args.save_total_limit)
            self.accelerator.wait_for_everyone()
        except Exception as error:
            raise self._not_saved(f"checkpoint-{self.state.global_step}", error) from error
        finally:
            if self.args.should_save:
                shutil.rmtree(self._staging, ignore_errors=True)

    def _not_saved(self, what: str, error: Exception) -> FerError:
        return FerError(
            f"{what} could not be written to {self.args.output_dir}: {error}. Earlier checkpoints are untouched: "
            "free some space or mend the permissions, then run the same command with --resume."
        )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # the Trainer's estimate counts tokens
