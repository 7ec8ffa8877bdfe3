"""Grad-CAM and ROAD on a network whose decision is known to hang on one corner, and on one that has learned nothing."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ViTImageProcessor

from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.explain.maps import explainable, grad_cam, random_maps, road_scores
from fer_hf.models.classifier import Classifier
from fer_hf.models.load import load_model
from fer_hf.workflows.explain import believable, choose, mean_estimate

needs_grad_cam = pytest.mark.skipif(importlib.util.find_spec("pytorch_grad_cam") is None, reason="extra `analysis`")
IMAGES = 8


class Corner(nn.Module):
    """Happy where the top left corner is bright; the rest of the image counts a hundredth."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.gate = nn.Conv2d(3, 2, 1)  # bright and dark
        nn.init.constant_(self.gate.weight, 0.5)
        with torch.no_grad():
            self.gate.weight[1] *= -1
            self.gate.bias.zero_()
        self.places = Places()
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[30.0, -30.0], [-30.0, 30.0]]))
            self.head.bias.zero_()

    def forward(self, pixel_values):
        maps = self.places(self.gate(self.pool(pixel_values)).relu())
        return SimpleNamespace(logits=self.head(maps.mean(dim=(2, 3))))


class Places(nn.Module):
    def forward(self, maps):
        weight = torch.full((4, 4), 0.01)
        weight[0, 0] = 1
        return maps * weight


class Flat(nn.Module):
    """Sees no places."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 32 * 32, 2)

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.head(pixel_values.flatten(1)))


@pytest.fixture(autouse=True)
def two_percentiles(monkeypatch):
    """Half the work."""
    monkeypatch.setattr("fer_hf.explain.maps.PERCENTILES", (40, 80))


@pytest.fixture(scope="module")
def corner() -> Classifier:
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    return Classifier(Corner(), processor, ("happy", "sad"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Noise that is dark but for the top left corner."""
    noise = torch.randint(0, 120, (IMAGES, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    noise[:, :, :8, :8] += 130
    return noise.to(torch.uint8)


@needs_grad_cam
def test_grad_cam_finds_the_corner_and_road_says_so(corner, images):
    targets = corner.logits(images).argmax(dim=1).tolist()
    assert targets == [0] * IMAGES
    maps = grad_cam(corner, images, targets, batch_size=5)
    assert (maps.shape, maps.dtype, maps.min(), maps.max()) == ((IMAGES, 32, 32), np.float32, 0, pytest.approx(1))
    assert maps[:, :4, :4].min() > 0.9
    assert maps[:, 16:, 16:].max() < 0.1
    assert all(p.grad is None for p in corner.model.parameters())
    state = torch.get_rng_state()
    road = road_scores(corner, images, maps, targets)
    assert torch.equal(torch.get_rng_state(), state)
    at_random = road_scores(corner, images, random_maps(IMAGES, explainable(corner).grid, (32, 32)), targets)
    upside_down = road_scores(corner, images, 1 - maps, targets)
    assert believable(mean_estimate(road - at_random))
    assert upside_down.mean() < -0.1
    assert road_scores(corner, images[:8], maps, targets).tolist() == road.tolist()


@needs_grad_cam
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_maps_of_a_network_that_has_learned_nothing_are_no_better_than_random(name, images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = load_model(name, LABEL_SETS["fer7"], pretrained=False, image_size=32)
    fresh = Classifier(loaded.model, loaded.processor, loaded.label_names)
    targets = fresh.logits(images).argmax(dim=1).tolist()
    maps = grad_cam(fresh, images, targets)
    assert maps.shape == (IMAGES, *fresh.spec.size)
    at_random = random_maps(IMAGES, explainable(fresh).grid, fresh.spec.size)
    scores = (road_scores(fresh, images, each, targets) for each in (maps, at_random))
    difference = next(scores) - next(scores)
    assert not believable(mean_estimate(difference))


def test_what_has_no_maps(corner, monkeypatch):
    flat = Classifier(Flat(), corner.processor, ("happy", "sad"))
    if importlib.util.find_spec("pytorch_grad_cam"):
        with pytest.raises(UserError, match="no feature map of more than one place at 32x32 pixels"):
            explainable(flat)
        flat.format = "onnx"
        with pytest.raises(UserError, match="Maps of the onnx file cannot be had"):
            explainable(flat)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fer_hf\[analysis\]'"):
        explainable(corner)


def test_as_many_right_as_wrong_images_of_each_class_are_chosen_where_there_are():
    labels = np.repeat([0, 1, 2], [40, 40, 1])
    predicted = labels.copy()
    predicted[:10] = 1
    rows = choose(labels, predicted, per_class=5)
    assert labels[rows].tolist() == [0] * 10 + [1] * 5 + [2]
    assert (labels[rows] == predicted[rows]).tolist() == [True] * 5 + [False] * 5 + [True] * 6
    assert len(set(rows)) == len(rows)
    assert rows == choose(labels, predicted, per_class=5) != choose(labels, predicted, per_class=5, seed=1)


def test_random_maps_are_smooth_and_repeatable():
    maps = random_maps(3, (4, 4), (32, 32))
    np.testing.assert_array_equal(maps, random_maps(3, (4, 4), (32, 32)))
    assert (maps.min() >= 0) & (maps.max() <= 1)
    assert np.abs(np.diff(maps, axis=2)).max() < 0.2
