"""The benchmarks run, as their docstrings and the README say; what they measure here means nothing.

One by the command itself, and those that change nothing of this process in it, where libraries are loaded already.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from face_folder import write_faces

from fer_hf.machine import process_settings_kept

ROOT = Path(__file__).parents[1]
TINY = ["--model", "test_resnet", "--size", "32"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    write_faces(folder, train=8, validation=2, test=1)  # 56, 14 and 7 images
    return folder


def run(name: str, faces: Path, folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", f"folder:{faces}", *options]
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def call(faces, monkeypatch, capfd):
    """Run a benchmark in this process; returns what it prints."""
    monkeypatch.syspath_prepend(ROOT)

    def main(name: str, *options: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, f"folder:{faces}", *options])
        with process_settings_kept():
            importlib.import_module(f"tests.benchmarks.{name}").main()
        return capfd.readouterr().out

    return main


def test_speed(faces, tmp_path):
    varied = "train.channels_last=true"
    options = ["train.channels_last=false", *TINY, "--batch", "8", "--steps", "2", "--vary", varied, "--workers", "1"]
    figures = json.loads(run("training", faces, tmp_path, *options).splitlines()[-1])
    assert figures["settings"] == ["train.channels_last=false"]
    assert figures["images_per_second"].keys() == {"ours", "stock", "ceiling", "ceiling, as ours", f"ours, {varied}"}
    assert min(figures["images_per_second"].values()) > 0


def test_profiles(call):
    out = call("training", *TINY, "--batch", "8", "--steps", "2", "--profile")
    assert [line.split(":")[0] for line in out.splitlines() if "images/s" in line] == ["stock", "ours"]
    assert out.count("backward") == 2


def test_parity(call):
    out = call("parity", *TINY, "--fraction", "1", "--epochs", "1", "--seeds", "2")
    results = json.loads(out.splitlines()[-1])["results"]
    assert [len(results[name]) for name in ("ours", "stock")] == [2, 2]
    assert all(0 <= accuracy <= 1 and seconds > 0 for runs in results.values() for accuracy, seconds in runs)


def test_cache(faces, tmp_path):
    figures = json.loads(run("cache", faces, tmp_path, "--times", "1").splitlines()[-1])
    assert figures["images"] == 77
