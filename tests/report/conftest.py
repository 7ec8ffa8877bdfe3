"""The metrics.json of a run, as plain objects that tests change before they draw a card from it."""

import pytest
from report_figures import LABELS, evaluation


def epoch(number, *figures) -> dict:
    keys = ("train_loss", "validation_loss", "train_accuracy", "accuracy", "macro_f1")
    return {"epoch": number, **dict(zip(keys, figures, strict=True))}


@pytest.fixture
def metrics():
    per_class = {"angry": 100, "happy": 260, "sad": 40}
    return {
        "schema_version": 1,
        "name": "tiny_fer",
        "label_names": LABELS,
        "recipe": {
            "name": "tiny_fer",
            "model": {"name": "resnet10t", "pretrained": False, "image_size": 48},
            "data": {"source": "fer2013:PATH", "label_set": ["angry", "happy", "sad"]},
            "train": {"num_train_epochs": 3, "learning_rate": 0.001, "seed": 42, "save_steps": 100},
            "loss": {"label_smoothing": 0.1},
            "augment": {"enabled": True, "crop_scale": [0.8, 1.0]},
        },
        "data": {
            "source": "fer2013",
            "dataset": "FER2013",
            "hub_id": None,
            "license": "DbCL 1.0 (as published on Kaggle)",
            "splits": {
                "train": {"images": 400, "per_class": per_class},
                "validation": {"images": 40, "per_class": {}},
                "test": {"images": 40, "per_class": {"angry": 10, "happy": 20, "sad": 10}},
            },
            "skipped": ["broken.png"],
            "dropped": {"contempt": 1200, "fear": 0},
            "notes": ["The test split is PrivateTest."],
        },
        "model": {
            "base_model": None,
            "architecture": "resnet10t",
            "pretrained": False,
            "parameters": 4923895,
            "image_size": [48, 48],
            "head": "new (random)",
            "notes": [],
        },
        "training": {
            "epochs": 3,
            "steps": 1200,
            "seconds": 2340.0,
            "images_per_second": 171.84,
            "effective_batch_size": 64,
            "processes": 1,
            "precision": "fp32",
            "seed": 42,
            "peak_memory_mb": 1500.2,
            "stopped_early": False,
            "resumed_at_steps": [],
            "best": {"metric": "macro_f1", "value": 0.7, "epoch": 3.0, "step": 1200},
            "history": [
                epoch(1.0, 1.0, 0.9, 0.55, 0.6, 0.5),
                epoch(2.0, 0.8, 0.7, 0.66, 0.7, 0.65),
                epoch(3.0, 0.5, 0.8, 0.78, 0.75, 0.7),
            ],
            "date": "2026-01-31",
        },
        "evaluations": {
            "fer2013-validation-int8": evaluation("validation", "int8", [[5, 1, 4], [0, 18, 2], [4, 0, 6]]),
            "fer2013-validation": evaluation("validation", "pytorch", [[7, 1, 2], [0, 18, 2], [4, 0, 6]]),
            "fer2013-validation-onnx": evaluation("validation", "onnx", [[7, 1, 2], [0, 18, 2], [4, 0, 6]]),
            "fer2013-test": evaluation("test", "pytorch", [[6, 1, 3], [0, 18, 2], [4, 0, 6]])
            | {"attributes": {"gender": 38}},
        },
        "export": {
            "onnx": {"file": "onnx/model.onnx", "megabytes": 19.84, "max_logit_difference": 3e-06},
            "int8": {
                "file": "onnx/model_int8.onnx",
                "megabytes": 5.1,
                "calibration": "minmax",
                "calibration_images": 512,
            },
        },
        "hub": {"repo_id": "someone/faces", "license": "apache-2.0", "tags": ["faces", "emotion"]},
        "environment": {
            "python": "3.11.7",
            "platform": "Linux",
            "packages": {"fer_hf": "0.1.0", "torch": "2.15.0"},
            "hardware": {"cpu": "Some CPU", "cores": 2, "memory_gb": 8.0, "gpu": None},
            "git_commit": None,
        },
    }
