"""TensorBoard's files of a stage: what is logged, and the graph of the model."""

import logging
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from transformers.integrations import TensorBoardCallback

from fer_hf.training.checkpoints import step_of
from fer_hf.training.trainer import FerTrainer

logger = logging.getLogger(__name__)


class Logits(nn.Module):
    """A model as TensorBoard's graph wants it: tensor in, tensor out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits `(B, C)` of images `(B, 3, H, W)`."""
        return self.model(pixel_values=pixel_values).logits


def tensorboard_callback(trainer: FerTrainer, events: Path, checkpoint: Path | None) -> TensorBoardCallback:
    """Writes into `events`: after a `checkpoint` in place of what a killed run logged, else from a graph on."""
    writer = SummaryWriter(str(events), purge_step=step_of(checkpoint) + 1 if checkpoint else None)
    if not checkpoint:
        size, device = trainer.parts.eval_transform.spec.size, next(trainer.model.parameters()).device
        try:
            writer.add_graph(Logits(trainer.model).eval(), torch.zeros(1, 3, *size, device=device))
        except RuntimeError:
            logger.info("  TensorBoard gets no graph of this model: it cannot be traced")
    return TensorBoardCallback(writer)
