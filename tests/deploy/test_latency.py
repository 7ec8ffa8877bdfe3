"""Latency is measured after a warm-up, of one image of the model's own size."""

import time
from types import SimpleNamespace

import torch

from fer_hf.deploy import latency
from fer_hf.deploy.latency import WARM_UP, cpu_latency
from fer_hf.models.load import load_model, save_model


def test_a_models_latency_has_its_surroundings(tmp_path):
    loaded = load_model("test_resnet", ("happy", "sad"), pretrained=False, image_size=32)
    save_model(loaded.model, loaded.processor, tmp_path)
    measured = cpu_latency(tmp_path, runs=5)
    assert 0 < measured["latency_min_ms"] <= measured["latency_ms"] <= measured["latency_max_ms"]
    assert measured["threads"] == torch.get_num_threads()
    assert measured["cpu"]


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
    assert 4 <= measured["latency_min_ms"] <= measured["latency_ms"] < 200  # the first would have been 200
