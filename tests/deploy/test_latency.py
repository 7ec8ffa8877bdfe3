"""Latency is measured after a warm-up, of one image of the model's own size."""

import time
from types import SimpleNamespace

import pytest
import torch

from fer_hf.deploy import latency
from fer_hf.deploy.latency import WARM_UP, cpu_latency, surroundings
from fer_hf.models.load import load_model, save_model


def test_a_models_latency_has_its_surroundings(tmp_path):
    loaded = load_model("test_resnet", ("happy", "sad"), pretrained=False, image_size=32)
    save_model(loaded.model, loaded.processor, tmp_path)
    measured = cpu_latency(tmp_path, runs=5)
    assert 0 < measured["min_ms"] <= measured["median_ms"] <= measured["max_ms"]
    assert measured["min_ms"] <= measured["mean_ms"] <= measured["max_ms"]
    assert measured["runs"] == 5
    assert measured["threads"] == torch.get_num_threads()
    assert surroundings().items() <= measured.items()


def test_the_warm_up_does_not_count_and_milliseconds_are_milliseconds(monkeypatch, tmp_path):
    loaded, shapes = load_model("test_resnet", ("happy", "sad"), pretrained=False, image_size=48), []

    class Slow(torch.nn.Module):
        def forward(self, pixel_values):
            assert not self.training
            assert not torch.is_grad_enabled()
            shapes.append(tuple(pixel_values.shape))
            time.sleep(0.2 if len(shapes) == 1 else 0.004)

    slow = SimpleNamespace(model=Slow(), processor=loaded.processor)
    monkeypatch.setattr(latency, "load_model", lambda folder: slow)
    measured = cpu_latency(tmp_path)
    assert shapes == [(1, 3, 48, 48)] * (WARM_UP + 30)
    assert 4 <= measured["min_ms"] < 20
    assert measured["min_ms"] <= measured["median_ms"] < 100 < 200


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_that_of_torch(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert surroundings()["threads"] == threads
    finally:
        torch.set_num_threads(before)
