"""Settings of the process: what a function leaves behind."""

import gc
import logging
import os
import warnings

import pytest
import torch

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
    before = settings()
    for _ in range(2):  # the decorator works more than once
        with pytest.raises(ZeroDivisionError):
            change_everything()
        assert settings() == before
