"""Settings of the process: what a function leaves behind; and which commit the code is of."""

import gc
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from fer_hf import machine
from fer_hf.machine import process_settings_kept


def settings() -> dict:
    loggers = {name: logging.getLogger(name) for name in (None, "fer_hf", "transformers", "datasets", "accelerate")}
    return {
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "levels": {name: (logger.level, logger.propagate) for name, logger in loggers.items()},
        "disabled": logging.root.manager.disable,
        "collector": (gc.isenabled(), gc.get_threshold()),
        "torch": (torch.get_num_threads(), torch.get_float32_matmul_precision()),
    }


@process_settings_kept()
def change_everything() -> None:
    os.environ["FER_HF_TEST"] = "1"
    del os.environ["FER_HF_TEST_THERE"]
    warnings.simplefilter("ignore")
    for name in (None, "fer_hf", "transformers", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger(name).propagate = False
    logging.disable(logging.CRITICAL)
    gc.disable()
    gc.set_threshold(123)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_float32_matmul_precision("medium")
    raise ZeroDivisionError


def test_settings_are_what_they_were_after_an_error_too(monkeypatch):
    monkeypatch.setenv("FER_HF_TEST_THERE", "before")
    with process_settings_kept():
        pass  # libraries change settings when they are imported
    before = settings()
    for _ in range(2):  # the decorator works more than once
        with pytest.raises(ZeroDivisionError):
            change_everything()
        assert settings() == before


PROJECT = '[project]\nname = "fer_hf"\n'
INSTALLED = ".venv/lib/site-packages/"


@pytest.mark.parametrize(
    ("where", "pyproject", "tracked", "named"),
    [
        ("", PROJECT, True, True),
        ("", PROJECT, False, False),
        ("", PROJECT.replace("fer_hf", "theirs"), True, False),
        (INSTALLED, PROJECT, False, False),
        (INSTALLED, PROJECT, True, False),
        ("vendored/", PROJECT, True, False),
    ],
    ids=["checkout", "not tracked", "of another project", "installed", "installed and tracked", "below another's"],
)
def test_only_a_checkout_of_this_project_names_its_commit(tmp_path, where, pyproject, tracked, named):
    (tmp_path / where / "fer_hf").mkdir(parents=True)
    for name in ("__init__.py", "machine.py"):
        shutil.copy(Path(machine.__file__).with_name(name), tmp_path / where / "fer_hf")
    (tmp_path / where / "pyproject.toml").write_text(pyproject)
    (tmp_path / "theirs.txt").touch()

    def git(*command: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *identity, *command], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init")
    git("add", "--force", "." if tracked else "theirs.txt")
    git("commit", "--message", "first")
    code = "from fer_hf.machine import environment; print(environment()['git_commit'])"
    here = {"PYTHONPATH": str(tmp_path / where), "PATH": os.environ["PATH"]}
    run = {"cwd": tmp_path, "env": here, "capture_output": True, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", code], **run)
    assert done.stdout.strip() == (git("rev-parse", "HEAD") if named else "None")
