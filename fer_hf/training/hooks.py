"""Every private name of transformers, accelerate and torch.compile that training needs, each with the reason.

No other module spells one of them. `HookedTrainer` gives the private methods of `Trainer` that we change a public name;
its subclasses override that. A test checks, on both majors of transformers, that each name still exists.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

OPTIMIZER_FILE, SCHEDULER_FILE = OPTIMIZER_NAME, SCHEDULER_NAME
"""Where `Trainer` looks for these two states in a checkpoint."""


def _calls(name: str) -> Any:
    """A method that calls the method of that name, which a subclass may have overridden."""
    return lambda self, *args, **kwargs: getattr(self, name)(*args, **kwargs)


class HookedTrainer(Trainer):
    """A `Trainer` whose private methods have public names: subclasses override these, and call `super()` under them."""

    prepare_batch = Trainer._prepare_inputs
    _prepare_inputs = _calls("prepare_batch")
    """Batches go to the device here; ours are augmented there, as a whole."""
    train_sampler = Trainer._get_train_sampler
    _get_train_sampler = _calls("train_sampler")
    """The order of the training images: classes may be drawn equally often."""
    logged_learning_rate = Trainer._get_learning_rate
    _get_learning_rate = _calls("logged_learning_rate")
    """The rate in the log: of several groups of parameters, the one of the recipe."""
    checkpoint_folder = Trainer._get_output_dir
    _get_output_dir = _calls("checkpoint_folder")
    """Where `checkpoint-N` folders are made: they are moved into place when they are whole."""
    save_checkpoint = Trainer._save_checkpoint
    _save_checkpoint = _calls("save_checkpoint")
    """A checkpoint: it is sealed with a manifest, and refused with weights that are not finite."""
    save_weights = Trainer._save
    _save = _calls("save_weights")
    """The weights in it: a thread writes a copy of them, while training goes on."""
    save_optimizer = Trainer._save_optimizer_and_scheduler
    _save_optimizer_and_scheduler = _calls("save_optimizer")
    """The states of optimiser and schedule in it: they are written likewise."""
    load_checkpoint = Trainer._load_from_checkpoint
    _load_from_checkpoint = _calls("load_checkpoint")
    """The weights of a checkpoint: their average is loaded, too."""

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Leave out the search for the checkpoint of the best step: ours is a folder of its own."""
        is_best = super()._determine_best_metric(metrics, trial)
        self.state.best_global_step = None
        return is_best


def use_one_device(args: TrainingArguments) -> None:
    """Let a process have one GPU: with several the Trainer makes threads, which lose autocast.

    A CPU is named without an index: under DDP transformers 4.57 loads optimiser states to "cpu:0", which torch has come
    to refuse.
    """
    args._n_gpu = min(args.n_gpu, 1)
    if args.device.type == "cpu":
        vars(args)["_setup_devices"] = torch.device("cpu")


def unprepare(model: nn.Module) -> None:
    """Take off what accelerate has put around a model's `forward`: the next trainer brings an autocast of its own."""
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        vars(model).pop(name, None)


@contextmanager
def compiled(network: nn.Module) -> Iterator[None]:
    """Inside, a network runs compiled, or as it is where that fails; its weights keep their names.

    Each shape of a batch is compiled by itself, and the limit of 8 such versions is raised.
    """
    torch.compiler.reset()  # or the models of earlier trainings in this process count against its limit
    network.compile(dynamic=False)
    with torch._dynamo.config.patch(suppress_errors=True, recompile_limit=64), ExitStack() as at_the_end:
        at_the_end.callback(vars(network).pop, "_compiled_call_impl")
        yield
