"""Fixtures that several test files share. Nothing here reaches the network: the local Hub speaks HTTP on 127.0.0.1."""

import gc
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

# Before any library reads them: no test may wait for a network, nor for the threads of another process.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    worker, workers = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[worker::workers] or cores)
sys.path.insert(0, str(Path(__file__).parent))

from hub_server import hub  # noqa: F401

ROOT = Path(__file__).parents[1]
LONG = ("test_readme.py", "test_two_processes.py", "test_slurm.py", "test_benchmarks.py", "test_fit.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)  # or one worker ends minutes after the others
    if importlib.util.find_spec("optimum") is None:
        for item in items:
            if item.get_closest_marker("export"):
                item.add_marker(pytest.mark.skip(reason="needs the extra `onnx`: pip install '.[onnx]'"))


def pytest_collection() -> None:
    gc.disable()  # while half a million objects of libraries are made


def pytest_collection_finish() -> None:
    """Libraries stay: the two collections of garbage in each training took half of its time to look through them."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def fer2013() -> Path:
    """The real FER2013, where FER_HF_DATA says so."""
    folder = Path(os.environ.get("FER_HF_DATA", "")) / "fer2013"
    if "FER_HF_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("needs the real FER2013: set FER_HF_DATA to the folder that holds fer2013/")
    return folder


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run `fer-hf` in this process, in an empty folder: `code, out, err = cli("recipe", "show", "quickstart")`."""
    from fer_hf.cli import main
    from fer_hf.machine import process_settings_kept

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fer-hf", *map(str, arguments)])
        capfd.readouterr()
        with process_settings_kept(), pytest.raises(SystemExit) as stopped:  # the command line changes them for good
            main()
        out, err = capfd.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small network for seven emotions, 32 pixels wide; its answers are far from uniform. Read only."""
    import torch

    from fer_hf.emotions import LABEL_SETS
    from fer_hf.models.load import load_model, save_model
    from fer_hf.models.network import heads

    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = load_model("test_resnet", LABEL_SETS["fer7"], pretrained=False, image_size=32)
        torch.nn.init.normal_(heads(loaded.model)[0].weight, std=5)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model(loaded.model, loaded.processor, folder)
    return folder


@pytest.fixture(scope="session")
def exported_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `tiny_model` with `onnx/model.onnx` and `onnx/model_int8.onnx`, for tests marked `export`."""
    from fer_hf.data.readers import toy
    from fer_hf.deploy.onnx import export_onnx, pixel_values
    from fer_hf.deploy.quantise import quantise
    from fer_hf.models.classifier import load_classifier

    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(tiny_model, folder)
    classifier, faces = load_classifier(folder), toy.load(train=8, validation=1, test=1, size=32)
    export_onnx(classifier, folder, pixel_values(faces["test"], classifier.spec))
    quantise(folder, faces["train"], classifier.spec)
    return folder
