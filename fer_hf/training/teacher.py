"""The teacher of a distillation: a trained model that looks at the student's own augmented batches."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_hf.emotions import LabelError, align
from fer_hf.errors import UserError
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import normalise
from fer_hf.models.classifier import load_classifier
from fer_hf.models.network import set_memory_format


class Teacher:
    """Logits of a trained model for the student's images, in the student's order of labels.

    Args:
        name: a run, model folder or Hub id.
        labels: the student's.
        spec: what the student's `pixel_values` were normalised with.
        device: where the teacher works.
        key: the key of the recipe that names the teacher, for errors.

    Raises:
        UserError: the teacher does not know all the student's labels.
    """

    def __init__(self, name: str, labels: Sequence[str], spec: ImageSpec, device: torch.device, key: str):
        classifier = load_classifier(name, device=device)
        try:
            self.rows = torch.tensor(align(classifier.label_names, labels), device=device)
        except LabelError as error:
            raise UserError(f"{key}: the teacher has other labels than the student. {error}") from error
        self.model = classifier.model.requires_grad_(False)
        set_memory_format(self.model, torch.channels_last)
        self.spec = classifier.spec
        self.mean, self.std = (torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (spec.mean, spec.std))

    @torch.no_grad()
    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Float logits `(B, C)` of the student's `pixel_values` `(B, 3, H, W)`."""
        images = pixel_values * self.std + self.mean
        if images.shape[-2:] != self.spec.size:
            images = F.interpolate(images, self.spec.size, mode="bilinear", antialias=True)
        return self.model(pixel_values=normalise(images, self.spec)).logits.float()[:, self.rows]
