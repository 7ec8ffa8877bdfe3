"""Fixtures that several test files share. Nothing here reaches the network: the local Hub speaks HTTP on 127.0.0.1."""

import importlib.util
import os
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

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fer-hf", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return int(stopped.value.code or 0), out, err

    return call
