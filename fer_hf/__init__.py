"""Fine-tune, evaluate, compress and publish facial-expression models with the Hugging Face stack.

    from fer_hf import load_recipe, train

    run = train(load_recipe("quickstart"))
    print(run.evaluation("test").accuracy)

Nothing heavy is imported before a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer_hf.data.faces import Faces, load_faces
    from fer_hf.errors import FerError, UserError
    from fer_hf.models.classifier import Classifier, load_classifier
    from fer_hf.recipe.load import load_recipe
    from fer_hf.recipe.schema import Recipe
    from fer_hf.runs.folder import Run
    from fer_hf.runs.records import Evaluation
    from fer_hf.workflows.compare import compare_runs
    from fer_hf.workflows.evaluate import evaluate
    from fer_hf.workflows.export import export
    from fer_hf.workflows.push import push
    from fer_hf.workflows.train import train

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Evaluation",
    "Faces",
    "FerError",
    "Recipe",
    "Run",
    "UserError",
    "compare_runs",
    "evaluate",
    "export",
    "load_classifier",
    "load_faces",
    "load_recipe",
    "push",
    "train",
]
_MODULES = {
    "Classifier": "models.classifier",
    "Evaluation": "runs.records",
    "Faces": "data.faces",
    "FerError": "errors",
    "Recipe": "recipe.schema",
    "Run": "runs.folder",
    "UserError": "errors",
    "compare_runs": "workflows.compare",
    "evaluate": "workflows.evaluate",
    "export": "workflows.export",
    "load_classifier": "models.classifier",
    "load_faces": "data.faces",
    "load_recipe": "recipe.load",
    "push": "workflows.push",
    "train": "workflows.train",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fer_hf' has no attribute {name!r}")
    return getattr(import_module(f"fer_hf.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
