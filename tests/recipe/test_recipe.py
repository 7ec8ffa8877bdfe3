import re
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import TrainingArguments

from fer_hf.errors import UserError
from fer_hf.recipe.checks import PASSED_ON, SET_BY_US
from fer_hf.recipe.load import find_recipe, load_recipe, shipped_recipes, validate_recipe
from fer_hf.recipe.schema import Recipe, Train

RECIPES = [path for path in shipped_recipes().rglob("*.yaml") if path.name != "study.yaml"]
SHIPPED = sorted(str(path.relative_to(shipped_recipes())) for path in RECIPES)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_valid_and_says_how_to_run_it(name):
    path = shipped_recipes() / name
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    header = "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    assert "fer-hf" in header or "fer_hf" in header
    assert find_recipe(Path(name).with_suffix("")) == path


def test_a_dumped_recipe_is_the_same_recipe(tmp_path):
    recipe = load_recipe(write(tmp_path, "train:\n  learning_rate: 1e-3\n  dataloader_num_workers: 2\n"))
    assert recipe.train.learning_rate == 0.001
    assert recipe.train.passed_through == {"dataloader_num_workers": 2}
    dumped = tmp_path / "recipe.yaml"
    dumped.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(dumped).model_dump() == recipe.model_dump()
    assert "split_seed: 0" in recipe.to_yaml()


def test_overrides(tmp_path):
    path = write(tmp_path, "data:\n  source: toy\n")
    overrides = [
        "data.source=folder:/a b/c: d #2",
        "train.seed=7",
        "loss.class_weights=[1,2,1,1,1,1,1]",
        "augment.enabled=false",
    ]
    recipe = load_recipe(path, overrides)
    assert recipe.data.source == "folder:/a b/c: d #2"
    assert recipe.train.seed == 7
    assert recipe.loss.class_weights == [1.0, 2.0, *[1.0] * 5]
    assert recipe.augment.enabled is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rat=1", "Did you mean 'train.learning_rate'"),
        ("train.dataloader_num_worker=1", "Did you mean 'train.dataloader_num_workers'"),
        ("model.nam=x", "model.nam: unknown key. Did you mean 'model.name'"),
        ("learning_rate=1", "Did you mean 'train.learning_rate'"),
        ("data.label_smoothing=0.1", "Did you mean 'loss.label_smoothing'"),
        ("train.seed=abc", "it is 'abc'"),
        ("model.image_size=8", "greater than or equal to 16"),
        ("augment.crop_scale=[2, 1]", "2.0 is above 1.0"),
        ("export.int8=true", "export.onnx"),
        ("train.fp16=true", "Use train.precision"),
        ("train.output_dir=x", "The run folder decides it"),
        ("train.eval_strategy=no", "one evaluation after each epoch"),
        ("train.torch_compile_mode=default", "Use train.torch_compile"),
        ("train.torch_compile=auto", "valid boolean"),
        ("train.fsdp=false", "train.fsdp: this key is gone"),
        ("train.deepspeed=x.json", "Models are not sharded here"),
        ("train.hub_token=hf_x", "Use `fer-hf push`"),
        ("train.include_for_metrics=[inputs]", "train.include_for_metrics: it is set by fer_hf. The metrics need all"),
        ("train.neftune_noise_alpha=5", "has no use here: leave it out (the command line)"),
        ("train.gradient_accumulation_steps=0", "greater than or equal to 1, but it is 0"),
        ("train.dataloader_persistent_workers=true", "needs workers: set train.dataloader_num_workers"),
        ("train.dataloader_num_workers=two", "it is 'two'"),
        ("train.max_steps=many", "it is 'many'"),
        ("evaluate.splits=[]", "at least 1 item"),
        ("data.label_set=[]", "at least 2 items"),
        ("train.seed=-1", "greater than or equal to 0"),
        ("train.label_names=[x]", "data.label_set"),
        ("name=../../elsewhere", "name:"),
        ("loss.class_weights=some", "'balanced' or 'effective_number', but it is 'some'"),
        ("data.source", "write section.key=value"),
        ("a.b.c=1", "write section.key=value"),
    ],
)
def test_mistakes_are_named(tmp_path, override, message):
    with pytest.raises(UserError) as error:
        load_recipe(write(tmp_path, ""), [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "loss:\n  focal_gamma: 2\naugment:\n  mixup: 0.2\n",
            "leave out augment.mixup or augment.cutmix (PATH, line 2)",
        ),
        ("loss: {focal_gamma: 2, label_smoothing: 0.1}", "leave out loss.label_smoothing (PATH, line 1)"),
        (
            "train:\n  precision: fp16\n  sam_rho: 0.05\n",
            "gradients of fp16: set train.precision to bf16 or fp32 (PATH, line 3)",
        ),
        ("loss:\n  class_weights: [1, 2]\n", "loss.class_weights: 2 weights for the 7 labels angry,"),
        (
            "loss:\n  class_weights: balanced\ntrain:\n  sampling: class_balanced\n",
            "choose it or loss.class_weights (PATH, line 4)",
        ),
        ("train:\n  ema_decay: 0.9\n  fsdp: true\n", "train.fsdp: this key is gone: each model fits on one GPU"),
        ("train:\n  ddp_comm_hook: bf16\n", "train.ddp_comm_hook: this key is gone: each model fits on one GPU"),
        ("train:\n  progressive_sizes: [24]\n  num_train_epochs: 1", "for 1 epochs: each needs one (PATH, line 2)"),
        ("train:\n  sam_adaptive: true\n", "set train.sam_rho (PATH, line 2)"),
        ("augment: {enabled: false, cutmix: 1}", "augment.enabled is false"),
        (
            "data: {label_set: [happy, sad]}\nevaluate:\n  top_k: [1, 3]\n",
            "evaluate.top_k: 3 is more than the 2 labels happy, sad (PATH, line 3)",
        ),
        ("evaluate: {top_k: [0]}", "should be greater than or equal to 1, but it is 0 (PATH, line 1)"),
        ("augment: {hue: 0.6}", "should be less than or equal to 0.5, but it is 0.6 (PATH, line 1)"),
        ("augment: {shear: 90}", "should be less than 90, but it is 90 (PATH, line 1)"),
        ("train:\n\n  metric_for_best_model: f2\n", "but it is 'f2' (PATH, line 3)"),
        (
            "train:\n  stages:\n    - learning_rate: 0\n",
            "train.stages.0.learning_rate: Input should be greater than 0, but it is 0 (PATH, line 3)",
        ),
        ("train:\n  sed: 0\n", "Did you mean 'train.seed'? (PATH, line 2)"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_recipe(path)
    assert message.replace("PATH", str(path)) in str(error.value)


def test_a_recipe_extends_another(tmp_path):
    write(
        tmp_path, "name: base\nmodel:\n  name: resnet18\n  image_size: 64\ntrain:\n  stages: [{trainable: head}, {}]\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text("extends: mine.yaml\nmodel:\n  image_size: 96\nloss:\n  focal_gamma: 1\n")
    recipe = load_recipe(child, ["train.seed=3"])
    assert (recipe.name, recipe.model.name, recipe.model.image_size, recipe.train.seed) == ("child", "resnet18", 96, 3)
    assert recipe.where("model.name") == f"{tmp_path / 'mine.yaml'}, line 3"
    assert recipe.where("model.image_size") == f"{child}, line 3"
    assert recipe.where("train.seed") == "the command line"
    assert recipe.where("train.stages.1.trainable") == f"{tmp_path / 'mine.yaml'}, line 6"
    assert recipe.where("report.title") == "the default"
    assert "extends" not in recipe.to_yaml()
    child.write_text("extends: quickstart\n")
    assert load_recipe(child).model.name == load_recipe("quickstart").model.name
    write(tmp_path, "extends: child.yaml\n")
    child.write_text("extends: mine.yaml\n")
    with pytest.raises(UserError, match="extends this recipe itself"):
        load_recipe(child)
    child.write_text("extends: elsewhere\n")
    with pytest.raises(UserError, match="no recipe 'elsewhere'"):
        load_recipe(child)


def test_all_problems_are_listed_at_once():
    with pytest.raises(UserError, match=r"(?s)model.pretrained.*train.seed"):
        validate_recipe({"train": {"seed": "x"}, "model": {"pretrained": "perhaps"}})


def test_a_missing_recipe_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'quickstart'"):
        find_recipe("quikstart")
    with pytest.raises(UserError, match="no recipe"):
        find_recipe("../recipes/quickstart")


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b\n", "a: !!python/object/apply:os.system [ls]"])
def test_bad_yaml_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load_recipe(write(tmp_path, text))


def test_what_is_published_holds_no_path(tmp_path):
    recipe = Recipe.model_validate({"data": {"source": f"fer2013:{tmp_path}"}, "model": {"name": str(tmp_path)}})
    assert str(tmp_path) not in str(recipe.public())
    assert recipe.public()["data"]["source"] == "fer2013:PATH"
    assert Recipe.model_validate({"data": {"source": "hub:org/name"}}).public()["data"]["source"] == "hub:org/name"


def test_several_sources_and_what_is_public_of_them(tmp_path):
    several = "data.source=[rafdb:/home/me/raf, {source: 'hub:a/b@v1', weight: 2}, toy]"
    audit = ["data.exclude=/home/me/secret/exclude.csv", "evaluate.copies=/home/me/secret/audit"]
    recipe = load_recipe("quickstart", [several, *audit])
    assert [getattr(entry, "weight", 1) for entry in recipe.data.source] == [1, 2.0, 1]
    assert recipe.public()["data"]["source"] == ["rafdb:PATH", {"source": "hub:a/b@v1", "weight": 2.0}, "toy"]
    assert recipe.public()["data"]["exclude"] == "exclude.csv"
    assert recipe.public()["evaluate"]["copies"] == "audit"
    assert load_recipe("fer2013/cpu_fast").public()["evaluate"]["copies"] == "find"
    file = tmp_path / "weights.pt"
    file.touch()
    hidden = load_recipe("quickstart", [f"model.weights={file}", f"loss.teacher={tmp_path}"]).public()
    assert (hidden["model"]["weights"], hidden["loss"]["teacher"]) == ("weights.pt", tmp_path.name)
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "again.yaml").data == recipe.data


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.mixture={gender: {female: 0.75, male: 0.5}}", "the shares of gender add up to 1.25, not to 1"),
        ("data.mixture={gender: {female: 1}, race: {asian: 1}}", "at most 1 item"),
        ("data.source=[{source: toy, weight: 0}]", "data.source.0.weight: Input should be greater than 0, but it is 0"),
        ("data.source=[]", "at least 1 item"),
        ("data.per_class=0", "greater than or equal to 1"),
        ("data.votes=most", "'majority', 'argmax' or 'soft'"),
    ],
)
def test_values_of_data_that_make_no_sense(override, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_recipe("quickstart", [override])


def test_a_file_of_an_earlier_run_loads_without_the_keys_that_are_gone(tmp_path):
    """Such a file has all defaults filled in; a run that it belongs to can be resumed."""
    retired = "  fsdp: false\n  ddp_comm_hook: none\n  torch_compile: auto\n"
    old = load_recipe(write(tmp_path, "name: mine\ntrain:\n  seed: 7\n" + retired))
    assert old.differences(load_recipe(write(tmp_path, "name: mine\ntrain:\n  seed: 7\n"))) == []
    assert old.train.torch_compile is False
    assert not old.train.passed_through


def test_every_field_of_training_arguments_is_passed_on_or_refused():
    """Also those that a later transformers brings: what is in no table is refused."""
    names = {field.name for field in fields(TrainingArguments) if field.init} - Train.model_fields.keys()
    for name in sorted(names - PASSED_ON.keys()):
        with pytest.raises(
            UserError, match=rf"train\.{name}: (it is set by fer_hf|this key is gone|.*has no use here)"
        ):
            validate_recipe({"train": {name: None}})
    assert not PASSED_ON.keys() & SET_BY_US.keys()
    of_5 = {"activation_checkpointing", "activation_checkpointing_kwargs", "dataloader_multiprocessing_context"}
    assert PASSED_ON.keys() - names <= of_5 | {"ddp_static_graph", "trackio_bucket_id"}
