"""The examples in docstrings are run."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import fer_hf

MODULES = [module.name for module in pkgutil.walk_packages(fer_hf.__path__, "fer_hf.") if "__main__" not in module.name]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(import_module(name))
    assert not failed


def test_what_people_call_has_examples():
    finder = doctest.DocTestFinder()
    with_examples = {test.name for name in MODULES for test in finder.find(import_module(name), name) if test.examples}
    assert len(with_examples) > 30
