"""The private names of other libraries: they still exist, and stand in one module alone."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from transformers import Trainer, TrainingArguments

from fer_hf.training import hooks
from fer_hf.training.hooks import HookedTrainer

PACKAGE = Path(hooks.__file__).parent
OVERRIDDEN = sorted(name for name in vars(HookedTrainer) if name.startswith("_") and not name.startswith("__"))
OF_TORCH = {"_foreach_abs", "_foreach_mul", "_foreach_norm", "_foreach_add_", "_foreach_copy_"}
"""Private names of PyTorch, which its own optimisers use."""


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_trainer_still_has_and_calls_each_method(name):
    assert callable(getattr(Trainer, name))
    assert re.search(rf"self\.{name}\b", inspect.getsource(inspect.getmodule(Trainer)))


def test_a_private_call_reaches_what_a_subclass_overrides():
    class Loud(HookedTrainer):
        def __init__(self):
            pass

        def prepare_batch(self, inputs):
            return inputs, "prepared"

    assert Loud()._prepare_inputs({"a": 1}) == ({"a": 1}, "prepared")


def test_the_other_private_names_still_exist(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    assert "_n_gpu" in vars(args)
    assert args.device.type == "cpu"
    assert "_setup_devices" in vars(args)  # where the property keeps its value
    prepare = inspect.getsource(Accelerator)
    assert "model._original_forward = model.forward" in prepare
    assert "model._is_accelerate_prepared = True" in prepare
    network = torch.nn.Linear(1, 1)
    network.compile(backend="eager")
    assert vars(network)["_compiled_call_impl"]
    with hooks.compiled(network):
        assert torch._dynamo.config.recompile_limit == 64
    assert network._compiled_call_impl is None


def test_the_device_of_a_cpu_has_no_index_and_a_process_one_gpu(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    vars(args)["_setup_devices"] = torch.device("cpu:0")
    hooks.use_one_device(args)
    assert str(args.device) == "cpu"
    args._n_gpu = 4
    hooks.use_one_device(args)
    assert args.n_gpu == 1


@pytest.mark.parametrize("file", [file for file in sorted(PACKAGE.glob("*.py")) if file.name != "hooks.py"])
def test_no_other_module_spells_one(file):
    """Whatever begins with an underscore and is not our own, and all methods that `Trainer` has."""
    spelled = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            spelled |= {node.name} & {name for name in dir(Trainer) if not name.startswith("__")} & set(OVERRIDDEN)
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            spelled.add(node.attr)
        if isinstance(node, ast.Attribute):
            spelled |= {node.attr} & set(OVERRIDDEN)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            spelled |= {node.value} & {*OVERRIDDEN, "_setup_devices", "_original_forward", "_is_accelerate_prepared"}
    assert {name for name in spelled if name.startswith("_") and not name.startswith("__")} <= OF_TORCH
