"""The study file: one recipe and what varies, as a list of runs.

    recipe: phase1.yaml               # beside it, or a shipped recipe's name
    variants:                         # named sets of overrides
      plain: {}
      mixup: {augment.mixup: 0.2}
    matrix:                           # every combination, times the variants
      model.name: [resnet18, efficientnet_b0]
      train.seed: [0, 1, 2]

Runs that differ in `train.seed` only are seeds of one configuration.
"""

import itertools
import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fer_hf.errors import UserError
from fer_hf.recipe.load import load_recipe, parse_yaml, read_yaml, shipped_recipes
from fer_hf.recipe.schema import Recipe


@dataclass(frozen=True)
class Study:
    """What to run: a recipe, and for each entry's name (readable, unique, fit for a folder) its overrides, in order."""

    name: str
    base: str
    entries: dict[str, list[str]]

    def recipe(self, entry: str, overrides: list[str]) -> Recipe:
        """An entry's recipe, with `overrides` of all entries. Raises `UserError` naming the entry."""
        varied = [override.partition("=")[0] for override in self.entries[entry]]
        if twice := [override for override in overrides if override.partition("=")[0].strip() in varied]:
            raise UserError(f"{twice[0]!r}: the study itself varies this key. Change it in the study file.")
        try:
            return load_recipe(self.base, [*overrides, *self.entries[entry]])
        except UserError as error:
            raise UserError(f"Entry {entry} of the study {self.name}: {error}") from error


def load_study(name: str) -> Study:
    """A study by file, or by the name of a shipped one. Raises `UserError` with the file and what is wrong in it."""
    path = _find(name)
    content = parse_yaml(read_yaml(path), str(path))
    if not isinstance(content, dict) or not isinstance(content.get("recipe"), str):
        raise UserError(f"{path} is no study: it needs `recipe:`, the name of the recipe that its runs share.")
    if unknown := content.keys() - {"recipe", "variants", "matrix"}:
        wrong = min(map(str, unknown))
        near = get_close_matches(wrong, ["variants", "matrix"], n=1, cutoff=0)
        raise UserError(f"{path}: {wrong}: unknown key. Did you mean {near[0]!r}?")
    variants, matrix = content.get("variants") or {"": {}}, content.get("matrix") or {}
    _check(path, variants, matrix)
    entries: dict[str, list[str]] = {}
    for variant, *values in itertools.product(variants, *matrix.values()):
        varied = dict(zip(matrix, values, strict=True))
        changes = variants[variant] | varied
        overrides = [f"{k}={json.dumps(v, default=str, ensure_ascii=False)}" for k, v in changes.items()]
        parts = [str(variant), *(_part(key, value) for key, value in varied.items())]
        label = re.sub(r"[^\w.=+-]+", "-", "-".join(parts)).strip("-.")[:100] or "entry"
        if same := [entry for entry, others in entries.items() if sorted(others) == sorted(overrides)]:
            raise UserError(f"{path}: {label} would be the same run as {same[0]}.")
        names = (f"{label}-{number}" if number else label for number in itertools.count())
        entries[next(name for name in names if name not in (*entries, "logs"))] = overrides  # logs/ is the study's
    beside = path.parent / content["recipe"]
    own_name = path.resolve().parent.name if path.stem == "study" else path.stem
    return Study(own_name, str(beside if beside.is_file() else content["recipe"]), entries)


def _find(name: str) -> Path:
    if Path(name).is_file():
        return Path(name)
    shipped = {file.parent.name: file for file in sorted(shipped_recipes().rglob("study.yaml"))}
    if name not in shipped:
        raise UserError(f"There is no study {name!r}. Shipped studies: {', '.join(shipped) or 'none'}.")
    return shipped[name]


def _check(path: Path, variants: Any, matrix: Any) -> None:
    """Refuse what is not `variant: {section.key: value}` and `section.key: [values]`."""
    if not isinstance(variants, dict) or not all(isinstance(changes, dict) for changes in variants.values()):
        raise UserError(f"{path}: variants are names with overrides each, such as `mixup: {{augment.mixup: 0.2}}`.")
    if not isinstance(matrix, dict) or not all(isinstance(values, list) and values for values in matrix.values()):
        raise UserError(f"{path}: the matrix has a list of values for each key, such as `train.seed: [0, 1, 2]`.")
    for name, changes in [("the matrix", matrix), *variants.items()]:
        for key in changes:
            if not re.fullmatch(r"\w+\.\w+", str(key)):
                raise UserError(f"{path}: {key!r} in {name} is no key of a recipe: write section.key.")
            if changes is not matrix and key in matrix:
                raise UserError(f"{path}: {key} stands in {name} and in the matrix: choose one.")


def _part(key: str, value: Any) -> str:
    """What a key of the matrix adds to a name: `seed=0`; of a model's name the last part alone."""
    if key == "model.name":
        return str(value).rstrip("/").rpartition("/")[2]
    return f"{key.rpartition('.')[2]}={value if isinstance(value, str) else json.dumps(value, default=str)}"
