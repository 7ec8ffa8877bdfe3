"""What the tests of whole trainings share."""

import logging

import pytest
from datasets import DatasetDict
from tiny_training import WHOLE, draw, train

from fer_hf.runs.folder import Run


@pytest.fixture(scope="session")
def splits() -> DatasetDict:
    return draw()


@pytest.fixture(scope="session")
def whole(splits, tmp_path_factory) -> Run:
    """A run that nobody disturbed."""
    return train(tmp_path_factory.mktemp("runs") / "whole", splits, **WHOLE)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The library's log, also after a test of the command line, which keeps it to itself."""
    monkeypatch.setattr(logging.getLogger("fer_hf"), "propagate", True)
    caplog.set_level(logging.INFO, "fer_hf")
    return caplog
