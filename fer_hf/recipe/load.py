"""Reading recipes: YAML, `extends:`, `section.key=value` overrides; every problem named by file, line and key."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.recipe.checks import RETIRED, contradictions, passed_through_problems
from fer_hf.recipe.schema import Recipe


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: `1e-4` is a number, where PyYAML's YAML 1.1 reads a string."""


FLOAT = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def parse_yaml(text: str, origin: str) -> Any:
    """YAML to plain objects. Raises `UserError` with `origin` and the line when it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not valid YAML: {error}") from error


def _lines(node: yaml.Node | None, key: str = "") -> dict[str, int]:
    """The line of every key of a YAML document, from 1, by names such as `train.stages.0.trainable`."""
    children: Any = enumerate(node.value) if isinstance(node, yaml.SequenceNode) else ()
    if isinstance(node, yaml.MappingNode):
        children = ((name.value, value) for name, value in node.value)
    lines = {key: node.start_mark.line + 1} if key and node else {}
    for name, value in children:
        lines |= _lines(value, f"{key}.{name}" if key else str(name))
    return lines


def shipped_recipes() -> Path:
    """The folder of the recipes that come with the package, installed or in a checkout."""
    installed = Path(__file__).parents[1] / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"


def find_recipe(name: str | Path) -> Path:
    """A recipe's file: a path, or the name of a shipped recipe (`quickstart`, `fer2013/cpu_from_scratch`)."""
    path = Path(name)
    if path.is_file():
        return path
    root = shipped_recipes()
    files = (file for file in root.rglob("*.yaml") if file.name != "study.yaml")
    known = sorted(file.relative_to(root).with_suffix("").as_posix() for file in files)
    wanted = path.as_posix().removeprefix("recipes/").removesuffix(".yaml")
    if wanted in known:
        return root / f"{wanted}.yaml"
    near = get_close_matches(wanted, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"There is no recipe {str(name)!r}.{hint} Shipped recipes: {', '.join(known)}.")


def copy_recipe(name: str | Path, target: Path) -> None:
    """Copy a recipe's file as it is. Raises `UserError` when there is no such recipe, or `target` exists."""
    source = find_recipe(name)
    if target.exists():
        raise UserError(f"{str(target)!r} exists already: choose another name.")
    write_text(target, source.read_text(encoding="utf-8"))


def load_recipe(name: str | Path, overrides: str | list[str] | None = None) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        name: a YAML file, or the name of a shipped recipe such as `"quickstart"` or `"fer2013/fer2013_b0"`.
        overrides: changes as on the command line, `"section.key=value"` with the value in YAML.

    Returns:
        The recipe, with every default filled in.

    Raises:
        UserError: a key or value is not valid; names file, line, key, value and what is allowed.

    Example:
        >>> load_recipe("quickstart", ["train.seed=7"]).train.seed
        7
    """
    path = find_recipe(name)
    content, origin = _read(path)
    for override in [overrides] if isinstance(overrides, str) else overrides or []:
        key = _override(content, override)
        origin = {k: v for k, v in origin.items() if not k.startswith(f"{key}.")} | {key: "the command line"}
    if not content.get("name"):
        content["name"] = re.sub(r"[^\w .-]+", "-", path.stem)
    return validate_recipe(content, str(path), origin)


def read_yaml(path: Path) -> str:
    """The text of a recipe or study. Raises `UserError` when it is none in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8, so no recipe: {error}.") from error


def _read(path: Path, heirs: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe's content, on top of the recipe that it `extends`, and where each key stands."""
    text = read_yaml(path)
    content = parse_yaml(text, str(path)) or {}
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; a recipe is a mapping of sections.")
    if isinstance(train := content.get("train"), dict):
        content["train"] = {key: value for key, value in train.items() if RETIRED.get(key, ...) != value}
    origin = {key: f"{path}, line {line}" for key, line in _lines(yaml.compose(text, Loader=_Loader)).items()}
    if "extends" not in content:
        return content, origin
    beside = path.parent / str(content["extends"])
    parent = beside if beside.is_file() else find_recipe(str(content["extends"]))
    if parent.resolve() in (*heirs, path.resolve()):
        raise UserError(f"{origin['extends']}: {content['extends']} extends this recipe itself.")
    inherited, places = _read(parent, (*heirs, path.resolve()))
    inherited.pop("name", None)
    for key, value in content.items():
        both = isinstance(value, dict) and isinstance(inherited.get(key), dict)
        inherited[key] = inherited[key] | value if both else value
    inherited.pop("extends")
    return inherited, places | origin


def validate_recipe(content: dict[str, Any], origin: str = "recipe", places: dict[str, str] | None = None) -> Recipe:
    """A recipe from plain objects, with every problem in one `UserError`; `places` says where each key was set."""
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        # Where a text or a list may stand, pydantic complains of both: only what is wrong with the list is told.
        errors = error.errors()
        items = [item for item in errors if item["loc"][-1:] != ("str",) or isinstance(item["input"], str | int)]
        problems = [_problem(item, places or {}) for item in items or errors]
        raise UserError(f"{origin}:\n  " + "\n  ".join(problems)) from error
    recipe._origin = places or {}
    if reasons := passed_through_problems(recipe.train) or list(contradictions(recipe)):
        raise UserError(f"{origin}:\n  " + "\n  ".join(f"{key}: {why} ({recipe.where(key)})" for key, why in reasons))
    return recipe


def _override(content: dict[str, Any], override: str) -> str:
    """Apply `section.key=value`, the value being YAML; returns the key."""
    key, separator, text = override.partition("=")
    section, dot, name = key.strip().rpartition(".")
    if not separator or not name or bool(section) != bool(dot) or "." in section:
        raise UserError(f"{override!r} is not an override: write section.key=value, such as train.learning_rate=1e-4.")
    if section and not isinstance(content.get(section), dict):
        content[section] = {}
    # A value with a colon or a hash, such as `folder:/a b: c #2`, is a text for people; any other is YAML.
    is_text = not re.match(r"^[\[{'\"]", text) and re.search(r"[:#]", text)
    (content[section] if section else content)[name] = text if is_text else parse_yaml(text, f"The value of {key}")
    return key.strip()


def _problem(item: Any, places: dict[str, str]) -> str:
    """One validation error as a line for people."""
    key = ".".join(str(part) for part in item["loc"] if not re.fullmatch(r"str|Weighted|(list|literal)\[.*", str(part)))
    place = f" ({places[key]})" if key in places else ""
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key.{_nearest(item['loc'])}{place}"
    message = item["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(item["input"], dict | BaseModel) else f", but it is {item['input']!r}"
    return f"{key}: {message}{shown}{place}" if key else message


def _nearest(location: tuple[int | str, ...]) -> str:
    """The known key nearest to an unknown one, in its own section first."""
    keys = {name: list(getattr(field.annotation, "model_fields", ())) for name, field in Recipe.model_fields.items()}
    own = keys.get(str(location[0]), []) if len(location) > 1 else []
    everywhere = {key: f"{name}.{key}" for name, section in keys.items() for key in section}
    wanted = str(location[-1])
    if wanted in everywhere:
        return f" Did you mean {everywhere[wanted]!r}?"
    if near := get_close_matches(wanted, own or list(Recipe.model_fields), n=1):
        return f" Did you mean {'.'.join([*map(str, location[:-1]), near[0]])!r}?"
    if near := get_close_matches(wanted, everywhere, n=1):
        return f" Did you mean {everywhere[near[0]]!r}?"
    return f" Known keys: {', '.join(own or Recipe.model_fields)}."
