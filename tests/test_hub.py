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
from fer_hf.hub import plan, plan_dataset, push, push_dataset
from fer_hf.runs.folder import Run

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
    (run.model / "elsewhere.json").symlink_to(run.recipe_file)
    return run


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def in_own_process(hub: HubServer, tmp_path: Path, script: str, *args: object, token: str | None = WRITER) -> str:
    """What a Python script prints that runs with this server as its Hub."""
    env = hub.env(tmp_path / "home", token) | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plan_lists_files_and_the_sizes_that_are_sent(run):
    files = {file.path_in_repo: file for file in plan(run)}
    assert list(files) == NAMES
    assert files["model.safetensors"].bytes == 7000
    assert files["recipe.yaml"].content == b"data:\n  source: fer2013:PATH\n"
    assert files["recipe.yaml"].bytes == len(files["recipe.yaml"].content)


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
from fer_hf.runs.folder import Run
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


def test_a_push_replaces_what_an_earlier_one_left(run, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path)
    older = tmp_path / "older"
    mine = {"onnx/model_int8.onnx", "figures/old.png", "model-00001-of-00002.safetensors", "model.safetensors"}
    for name in (*mine, "notes.md", "extra/model.txt", "config.json"):
        (older / name).parent.mkdir(parents=True, exist_ok=True)
        (older / name).write_text(name)
    repo = hub.add_repo("someone/name", older)
    push(run, "someone/name", message="Anew")
    assert [commit.message for commit in repo.commits][2:] == ["Anew"]
    assert sorted(repo.files) == sorted([*NAMES, "notes.md", "extra/model.txt"])
    assert repo.files["config.json"] == (run.model / "config.json").read_bytes()


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
from fer_hf.runs.folder import Run
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


# --- datasets


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """What `fer-hf data save` writes, without images, among files that are none of it."""
    files = {
        "README.md": 'load_dataset("PATH/TO/DATASET")\nload_faces("folder:PATH/TO/DATASET")\n',
        "data/train-00000-of-00002.parquet": "0",
        "data/train-00001-of-00002.parquet": "1",
        "data/test-00000-of-00001.parquet": "2",
        "data/notes.txt": "mine",
        "private.parquet": "mine",
    }
    for name, text in files.items():
        (tmp_path / "prepared" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "prepared" / name).write_text(text)
    return tmp_path / "prepared"


def test_push_dataset_sends_the_card_and_the_shards_and_replaces_older_ones(prepared, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path)
    older = tmp_path / "older"
    (older / "data").mkdir(parents=True)
    for name in ("data/train-00000-of-00001.parquet", "data/train-00001-of-00002.parquet", "data/list.txt", "LICENSE"):
        (older / name).write_text(name)
    repo = hub.add_repo("someone/faces", older, repo_type="dataset")
    url = push_dataset(prepared, "someone/faces")
    assert url == f"{hub.url}/datasets/someone/faces/commit/{repo.commits[-1].oid}"
    assert len(repo.commits) == 3
    assert repo.files == {
        "README.md": b'load_dataset("someone/faces")\nload_faces("hub:someone/faces")\n',
        "data/test-00000-of-00001.parquet": b"2",
        "data/train-00000-of-00002.parquet": b"0",
        "data/train-00001-of-00002.parquet": b"1",
        "data/list.txt": b"data/list.txt",
        "LICENSE": b"LICENSE",
    }
    assert push_dataset(prepared, "someone/faces") == url
    with pytest.raises(UserError, match=r"'someone/faces' exists and is public.*/datasets/someone/faces/settings"):
        push_dataset(prepared, "someone/faces", private=True)
    assert len(repo.commits) == 3
    assert not any(kind == "model" for kind, _ in hub.repos)


def test_push_dataset_refuses_as_push_does(prepared, run, hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, tmp_path, token=None)
    assert push_dataset(prepared, "someone/faces", dry_run=True) == f"{hub.url}/datasets/someone/faces"
    with pytest.raises(UserError, match=r"is no prepared dataset.*fer-hf data save"):
        push_dataset(run.path, "someone/faces", dry_run=True)
    with pytest.raises(UserError, match="is not the name of a repository"):
        push_dataset(prepared, "faces")
    with pytest.raises(UserError, match="hf auth login"):
        push_dataset(prepared, "someone/faces")
    assert hub.requests == []
    with pytest.raises(UserError, match="may not write to 'other/faces'"):
        push_dataset(prepared, "other/faces", token=WRITER)
    hub.fail_next["commit"] = 500
    with pytest.raises(FerError, match=r"no file on the Hub was changed.*Run the same command again"):
        push_dataset(prepared, "someone/faces", token=WRITER)
    (prepared / "README.md").write_text("---\ntags: [a\n---\n")
    with pytest.raises(UserError, match=r"(?s)refuses the dataset card.*Correct README\.md"):
        push_dataset(prepared, "someone/faces", token=WRITER)
    assert [commit.message for commit in hub.repos["dataset", "someone/faces"].commits] == ["initial commit"]


def test_a_saved_dataset_comes_back_from_the_hub(hub, tmp_path):
    from PIL import Image

    for number in range(6):
        for split, name in (("train", "happy"), ("train", "sad"), ("test", "sad")):
            file = tmp_path / "faces" / split / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 10 * number + len(name)).save(file)
    (tmp_path / "faces" / "metadata.csv").write_text("file_name,gender\ntrain/sad/3.png,F\n")
    script = """
import sys
from pathlib import Path
from fer_hf.data import load_faces
from fer_hf.data.prepared import columns, save
from fer_hf.hub import push_dataset
from fer_hf.report.dataset_card import dataset_card
home = Path(sys.argv[1])
def load(source):
    return load_faces(source, ("sad", "happy"), purpose="inspection")
def rows(faces):
    return {
        split: [(row["id"], row["label"], row["image"].getpixel((0, 0)), row.get("gender")) for row in data]
        for split, data in faces.splits.items()
    }
faces = load(f"folder:{home / 'faces'}")
save(faces, home / "saved", dataset_card(faces.describe(), "My faces", columns(faces)))
push_dataset(home / "saved", "someone/faces", private=True)
found = load("hub:someone/faces")
assert rows(found) == rows(faces), (rows(found), rows(faces))
print(len(rows(found)["train"]), [row[3] for row in rows(found)["train"]].count("female"), found.dataset)
"""
    assert in_own_process(hub, tmp_path, script, tmp_path) == "12 1 someone/faces\n"
    repo = hub.repos["dataset", "someone/faces"]
    assert repo.private
    assert [commit.message for commit in repo.commits] == ["initial commit", "Upload the dataset and its card"]
    assert list(repo.files) == [file.path_in_repo for file in plan_dataset(tmp_path / "saved")]
    assert b'load_faces("hub:someone/faces"' in repo.files["README.md"]
    assert all(str(tmp_path).encode() not in data for data in repo.files.values())
    assert hub.escaped == []
