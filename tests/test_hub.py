"""Pushing, over real HTTP to the local Hub server; most clients live in this process, some in one of their own."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_server import READER, WRITER, HubServer

from fer_hf.errors import FerError, UserError
from fer_hf.hub import plan, push
from fer_hf.run import Run

CARD = "---\npipeline_tag: image-classification\nlicense: apache-2.0\n---\n# Faces\nTrained on FER2013\n"
NAMES = [
    "README.md",
    "config.json",
    "figures/confusion.png",
    "metrics.json",
    "model.safetensors",
    "onnx/model.onnx",
    "preprocessor_config.json",
    "recipe.yaml",
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "runs" / "tiny" / "20260131-120000")
    files = {
        "recipe.yaml": yaml.safe_dump({"data": {"source": "fer2013:/home/me/My Data/fer.csv"}}),
        "metrics.json": json.dumps({"recipe": {"data": {"source": "fer2013:PATH"}}}),
        "checkpoints/checkpoint-1/model.safetensors": "not to be sent",
        "model/config.json": '{"model_type": "vit"}',
        "model/preprocessor_config.json": "{}",
        "model/README.md": CARD,
        "model/model.safetensors": "weights" * 1000,
        "model/training_args.bin": "a pickle",
        "model/.cache/x.json": "{}",
        "model/figures/confusion.png": "png",
        "model/onnx/model.onnx": "onnx",
        "model/onnx/.model.onnx.123": "half of it",
    }
    for name, text in files.items():
        path = run.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return run


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def in_own_process(hub: HubServer, tmp_path: Path, script: str, *args: object, token: str | None = WRITER) -> str:
    """What a Python script prints that runs with this server as its Hub."""
    env = hub.env(tmp_path / "home", token) | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plan_lists_files_and_the_sizes_that_are_sent(run):
    files = {file.path_in_repo: file for file in plan(run)}
    assert list(files) == NAMES
    assert files["model.safetensors"].bytes == 7000
    assert files["recipe.yaml"].content == b"data:\n  source: fer2013:PATH\n"
    assert files["recipe.yaml"].bytes == len(files["recipe.yaml"].content)
    assert files["model.safetensors"].bytes == 7000


@pytest.mark.parametrize(
    ("gone", "cure"), [("model.safetensors", "train"), ("config.json", "train"), ("README.md", "report")]
)
def test_plan_says_what_to_run_when_a_part_is_missing(run, gone, cure):
    (run.model / gone).unlink()
    with pytest.raises(UserError, match=f"fer-hf {cure}"):
        plan(run)


def test_push_is_one_commit_and_comes_back_identical(run, hub, tmp_path):
    script = """
import sys
from huggingface_hub import snapshot_download
from fer_hf.hub import push
from fer_hf.run import Run
print(push(Run.open(sys.argv[1]), "someone/name", message="First"))
print(snapshot_download("someone/name"))
"""
    url, folder = in_own_process(hub, tmp_path, script, run.path).split()
    repo = hub.repos["model", "someone/name"]
    assert [commit.message for commit in repo.commits] == ["initial commit", "First"]
    assert url == f"{hub.url}/someone/name/commit/{repo.commits[-1].oid}"
    assert sorted(repo.files) == sorted(NAMES)
    got = digests(Path(folder))
    sent_as_is = [name for name in NAMES if name not in ("recipe.yaml", "metrics.json")]
    assert {name: got[name] for name in sent_as_is} == {name: digests(run.model)[name] for name in sent_as_is}
    for name, data in repo.files.items():
        assert b"/home/me" not in data, name
        assert hashlib.sha256(data).hexdigest() == got[name]
    assert hub.escaped == []


def test_dry_run_sends_nothing(run, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path, token=None)
    assert push(run, "someone/name", dry_run=True) == f"{hub.url}/someone/name"
    assert hub.requests == []


def test_push_again_commits_only_what_changed(run, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path)
    first = push(run, "someone/name")
    assert push(run, "someone/name") == first
    (run.model / "README.md").write_text(CARD + "More.\n")
    assert push(run, "someone/name") != first
    repo = hub.repos["model", "someone/name"]
    assert len(repo.commits) == 3
    assert repo.files["README.md"].endswith(b"More.\n")


@pytest.mark.parametrize("token", [None, "hf_wrong", "hf with blanks"])
def test_no_token_or_a_wrong_one(run, hub, tmp_path, monkeypatch, token):
    hub.connect(monkeypatch, tmp_path, token=None)
    with pytest.raises(UserError, match="hf auth login") as error:
        push(run, "someone/name", token=token)
    assert "HF_TOKEN" in str(error.value)
    assert str(token) not in str(error.value)
    assert not hub.repos


@pytest.mark.parametrize(
    ("repo_id", "token"), [("someone/name", READER), ("other/name", WRITER), ("other/new", WRITER)]
)
def test_no_right_to_write_names_the_repo(run, hub, tmp_path, monkeypatch, repo_id, token):
    for existing in ("someone/name", "other/name"):
        hub.add_repo(existing, run.model / "figures")
    hub.connect(monkeypatch, tmp_path, token)
    with pytest.raises(UserError, match=repo_id):
        push(run, repo_id)
    assert all(len(repo.commits) == 2 for repo in hub.repos.values())


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", "some one/name", "someone/a--b", ""])
def test_a_name_that_is_none(run, hub, tmp_path, monkeypatch, repo_id):
    hub.connect(monkeypatch, tmp_path)
    with pytest.raises(UserError, match="someone/name"):
        push(run, repo_id)
    assert hub.requests == []


def test_private(run, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path)
    push(run, "someone/secret", private=True)
    push(run, "someone/secret")  # stays private
    assert hub.repos["model", "someone/secret"].private
    hub.add_repo("someone/open", run.model / "figures")
    with pytest.raises(UserError, match="'someone/open' exists and is public"):
        push(run, "someone/open", private=True)
    assert len(hub.repos["model", "someone/open"].commits) == 2


@pytest.mark.parametrize(
    ("request_kind", "failure"), [("create", 500), ("put", 400), ("commit", 500), ("commit", "drop"), ("commit", 429)]
)
def test_a_failure_in_the_middle_changes_nothing_and_the_same_command_then_works(
    run, hub, tmp_path, monkeypatch, request_kind, failure
):
    hub.connect(monkeypatch, tmp_path)
    before = digests(run.path)
    hub.fail_next[request_kind] = failure
    with pytest.raises(FerError, match="Run the same command again") as error:
        push(run, "someone/name")
    assert error.value.exit_code == 1
    assert ("no file on the Hub was changed" in str(error.value)) == (failure != "drop")
    assert WRITER not in str(error.value)
    assert not any(repo.files for repo in hub.repos.values())
    assert digests(run.path) == before
    push(run, "someone/name")
    assert sorted(hub.repos["model", "someone/name"].files) == sorted(NAMES)
    assert len(hub.repos["model", "someone/name"].commits) == 2


def test_a_lost_answer_is_not_called_a_failed_commit_and_is_not_committed_twice(run, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path)
    hub.fail_next["commit"] = "lost"
    with pytest.raises(FerError, match="either all of it has arrived on the Hub or nothing"):
        push(run, "someone/name")
    repo = hub.repos["model", "someone/name"]
    assert push(run, "someone/name").endswith(repo.commits[-1].oid)
    assert len(repo.commits) == 2


def test_the_network_is_down_or_switched_off(run, hub, tmp_path, monkeypatch):
    hub.server_close()
    hub.connect(monkeypatch, tmp_path)
    with pytest.raises(FerError, match="Run the same command again") as error:
        push(run, "someone/name")
    assert error.value.exit_code == 1
    script = """
import sys
from fer_hf.errors import UserError
from fer_hf.hub import push
from fer_hf.run import Run
import huggingface_hub
try:
    push(Run.open(sys.argv[1]), "someone/name")
except UserError as error:
    print(error)
"""
    offline = script.replace("import sys", "import os, sys\nos.environ['HF_HUB_OFFLINE'] = '1'", 1)
    assert "HF_HUB_OFFLINE is set" in in_own_process(hub, tmp_path, offline, run.path)


def test_a_card_that_the_hub_refuses(run, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path)
    (run.model / "README.md").write_text("---\ntags: [a\n---\n")
    with pytest.raises(UserError, match=r"refuses the model card.*README\.md"):
        push(run, "someone/name")


def test_pipeline_loads_what_push_sent(run, hub, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    names = dict(enumerate(("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")))
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    ViTForImageClassification(ViTConfig(**sizes, intermediate_size=16, **labels)).save_pretrained(run.model)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(run.model)
    pixels = torch.randint(0, 256, (48, 48, 3), dtype=torch.uint8).numpy()
    Image.fromarray(pixels).save(tmp_path / "face.png")
    hub.connect(monkeypatch, tmp_path)
    push(run, "someone/name", private=True)

    script = """
import json, sys
from transformers import pipeline
for model in ("someone/name", sys.argv[1]):
    print(json.dumps(pipeline("image-classification", model=model, top_k=7)(sys.argv[2])))
"""
    from_hub, local = in_own_process(hub, tmp_path, script, run.model, tmp_path / "face.png").splitlines()
    assert from_hub == local
    assert json.loads(local)[0]["label"] in names.values()
    assert any(path.endswith("/config.json") for _, path in hub.requests)
    assert hub.escaped == []


def test_the_server_serves_datasets(hub, tmp_path):
    from datasets import Dataset, Features, Image, Value
    from PIL import Image as PilImage

    face = PilImage.new("L", (8, 8), 7)
    faces = Dataset.from_dict(
        {"image": [face] * 3, "label": [0, 1, 2]}, Features({"image": Image(), "label": Value("int64")})
    )
    (tmp_path / "faces" / "data").mkdir(parents=True)
    faces.to_parquet(tmp_path / "faces" / "data" / "train-00000-of-00001.parquet")
    hub.add_repo("someone/faces", tmp_path / "faces", repo_type="dataset", private=True)
    script = """
from datasets import load_dataset
faces = load_dataset("someone/faces", split="train")
print(faces["label"][:], faces[0]["image"].getpixel((3, 3)))
"""
    assert in_own_process(hub, tmp_path, script) == "[0, 1, 2] 7\n"
    assert hub.escaped == []
