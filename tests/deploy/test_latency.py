"""Latency is measured after a warm-up, of one image of the model's own size."""

import time

import torch
from transformers import ViTImageProcessor

from fer_hf.deploy import latency
from fer_hf.deploy.latency import WARM_UP, cpu_latency
from fer_hf.models.classifier import Classifier


def test_a_models_latency_has_its_surroundings(tiny_model):
    measured = cpu_latency(tiny_model, runs=5)
    assert 0 < measured["latency_min_ms"] <= measured["latency_ms"] <= measured["latency_max_ms"]
    assert measured["threads"] == torch.get_num_threads()
    assert measured["cpu"]


def test_the_warm_up_does_not_count_and_milliseconds_are_milliseconds(monkeypatch, tmp_path):
    processor, shapes = ViTImageProcessor(size={"height": 48, "width": 48}), []

    class Slow(torch.nn.Module):
        def forward(self, pixel_values):
            assert not self.training
            assert not torch.is_grad_enabled()
            shapes.append(tuple(pixel_values.shape))
            time.sleep(0.2 if len(shapes) == 1 else 0.004)

    slow = Classifier(Slow(), processor, ("happy", "sad"))
    monkeypatch.setattr(latency, "load_classifier", lambda folder, format: slow)
    measured = cpu_latency(tmp_path)
    assert shapes == [(1, 3, 48, 48)] * (WARM_UP + 30)
    assert 4 <= measured["latency_min_ms"] <= measured["latency_ms"] < 200  # the first would have been 200
