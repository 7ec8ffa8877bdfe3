"""Every command of the README is run, in its order; only the names in capitals are filled in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import image_server
import numpy as np
import pytest
import torch
from hub_server import WRITER
from PIL import Image

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.models.load import load_model, save_model
from fer_hf.runs.folder import Run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
BASH = [text for language, text in BLOCKS if language == "bash"]
PYTHON = [text for language, text in BLOCKS if language == "python"]
LABELS = LABEL_SETS["fer7"]


def environment() -> dict[str, str]:
    """This interpreter's scripts first on the path, so that `fer-hf` and `accelerate` are the installed ones."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}


def shell(command: str, folder: Path, env: dict[str, str]) -> str:
    """What the command prints; it is answered with yes."""
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=env, input="y\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


DRIVER = """
import gc, io, shlex, subprocess, sys, traceback
from fer_hf.cli import main
from fer_hf.workflows import study
def run_here(command, log):  # by a process of its own in tests/recipe/test_study.py
    sys.argv[:] = ["fer-hf", *command[3:]]
    try:
        main()
    except SystemExit as stop:
        return f"exit code {stop.code}" if stop.code else ""
study._run_one = run_here
for number, line in enumerate(sys.argv[1:]):
    print(f"--- {number}", flush=True)
    if line.startswith("fer-hf "):
        words = subprocess.check_output(["bash", "-euc", f"printf '%s\\\\0' {line.removeprefix('fer-hf ')}"], text=True)
        sys.argv[:], sys.stdin = ["fer-hf", *words.split(chr(0))[:-1]], io.StringIO("y\\n")
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, (line, stop.code)
    else:
        exec(line)
    gc.freeze()  # libraries stay, see conftest.py
print("--- end")
"""


def run_together(commands: list[str], folder: Path, env: dict[str, str]) -> list[str]:
    """What each command, or piece of Python, prints; all of them in one process, for which libraries load once."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *commands], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return re.split(r"^--- \w+\n", done.stdout, flags=re.MULTILINE)[1:-1]


def test_no_link_is_dead_and_nothing_is_left_to_fill_in():
    for document in (ROOT / "README.md", ROOT / "recipes" / "README.md", *(ROOT / "model_cards").rglob("*.md")):
        text = document.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text):
            assert (document.parent / link).exists(), f"{document}: {link}"
        assert not re.search(r"\b(TODO|RESULTS|FERRUN|QUICKSTART)\b", text)


@pytest.mark.parametrize("name", ["cpu_from_scratch", "lite0"])
def test_figures_of_the_readme_are_those_of_the_card(name):
    metrics = Run(ROOT / "model_cards" / f"fer2013_{name}").metrics
    row = next(line for line in README.splitlines() if line.startswith(f"| `fer2013/{name}`"))
    test = metrics.evaluations["fer2013-test"]
    low, high = test.accuracy_ci
    assert f"{test.accuracy * 100:.1f} % [{low * 100:.1f}, {high * 100:.1f}]" in row
    assert f"{test.macro_f1 * 100:.1f} %" in row
    assert f"{metrics.training.seconds / 60:.0f} min" in row


def test_it_opens_with_the_two_commands():
    assert [language for language, _ in BLOCKS[:2]] == ["bash", "bash"]
    first, second = BASH[:2]
    assert first == "python3 -m venv .venv && .venv/bin/pip install -q '.[onnx]' && .venv/bin/fer-hf quickstart\n"
    assert second.startswith("python3 -m venv .venv && .venv/bin/pip install -q '.[onnx,dev]' && ")
    assert second.endswith(".venv/bin/python -m pytest -q -n logical\n")


@pytest.mark.export
def test_quickstart(tmp_path):
    """The first command, once installed: the figures that it promises."""
    measured = "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss"  # in KiB, of the largest process
    command = [
        "fer-hf",
        "quickstart",
        "model.image_size=48",
        "train.num_train_epochs=12",
    ]  # of 64 and 16: half the time
    script = f"import resource, subprocess; subprocess.run({command}, check=True); print({measured})"
    out = shell(f'python -c "{script}"', tmp_path, environment())
    run = Run.all(tmp_path / "runs" / "quickstart")[0]
    assert str(run.model.relative_to(tmp_path) / "README.md") in out
    evaluations = run.metrics.evaluations
    assert evaluations["toy-test"].accuracy >= 0.9
    assert evaluations["toy-validation-int8"].accuracy >= evaluations["toy-validation"].accuracy - 0.02
    assert int(out.split()[-1]) / 2**20 < 3
    card = (run.model / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card
    snippets = re.findall(r"^```python\n(.*?)^```", card, flags=re.DOTALL | re.MULTILINE)
    assert len(snippets) >= 2
    toy.load(train=1, validation=1, test=1)["test"][0]["image"].save(tmp_path / "face.jpg")
    run_together([snippet.replace("PATH/TO/MODEL", str(run.model)) for snippet in snippets], tmp_path, environment())


def grid_of_faces() -> Image.Image:
    """A picture as a provider makes it: 3 x 3 drawn faces, whatever was asked for."""
    canvas = Image.new("RGB", (306, 306), "white")
    for place in range(9):
        face = toy.draw_face("happy", np.random.default_rng(place), size=96)
        canvas.paste(face, (6 + place % 3 * 100, 6 + place // 3 * 100))
    return canvas


FEWER_EPOCHS = """
path = __import__("pathlib").Path("my_recipe.yaml")
text = path.read_text()
assert "num_train_epochs: 10" in text
path.write_text(text.replace("num_train_epochs: 10", "num_train_epochs: 2"))
"""


@pytest.mark.export
def test_every_other_command(tmp_path, hub):
    env = hub.env(tmp_path / "home", WRITER) | {name: environment()[name] for name in ("PATH", "PYTHONPATH")}
    torch.manual_seed(0)
    model = load_model("test_resnet", LABELS, pretrained=False, image_size=32)
    save_model(model.model, model.processor, tmp_path / "model")
    for split, rows in toy.load(train=8, validation=8, test=3, size=32).items():  # a temperature wants 50 images
        for row in rows:
            folder = tmp_path / "faces" / split / LABELS[row["label"]]
            folder.mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / f"{row['id']}.png")
            row["image"].save(tmp_path / "face.jpg")
    shutil.copy(ROOT / "accelerate_config.yaml", tmp_path)
    (tmp_path / "study.yaml").write_text(next(text for language, text in BLOCKS if language == "yaml"))
    first = "$(ls -d runs/my_recipe/* | head -1)"
    provider = image_server.Provider(grid_of_faces())
    filled = {"DATA": "folder:faces", "MODEL": "model", "RUN": first, "PHOTOS": "faces", "GENERATOR": provider.url}
    filled |= {"OTHER": "folder:faces", "RUN2": "$(ls -d runs/my_recipe/* | tail -1)"}

    def fill(text: str) -> str:
        return re.sub(rf"\b({'|'.join(filled)})\b", lambda match: filled[match[1]], text)

    lines = [fill(line) for line in "".join(BASH[2:]).splitlines() if line != ". .venv/bin/activate"]
    launched = [line for line in lines if line.startswith("accelerate")]
    commands = [line for line in lines if line not in launched]
    assert len(commands) >= 20
    assert commands[0].startswith("fer-hf recipe copy")
    commands.insert(1, FEWER_EPOCHS)  # what all others train by
    for command, out in zip(commands, run_together(commands, tmp_path, env), strict=True):
        assert " push " not in command or "nothing was sent" in out
    for command in launched:
        shell(command, tmp_path, env)
    provider.stop()
    assert len(provider.asked) == 16  # eight emotions, women and men
    assert len(list((tmp_path / "synthetic").rglob("*_r3_c3.png"))) == 16

    run = Run.all(tmp_path / "runs" / "my_recipe")[-1]
    filled |= {"RUN": str(run.path), "MODEL": 'model", "train.num_train_epochs=2'}
    last = "fer-hf predict someone/name face.jpg"
    then = [
        f"fer-hf push {first} --repo-id someone/name",
        *(fill(text) for text in PYTHON),
        f"fer-hf predict {run.path} face.jpg --top-k 1",
        f"{last} --top-k 1",
        f"{last} --top-k 7 --format int8",
    ]
    *blocks, local, remote, int8 = run_together(then, tmp_path, env)[1:]
    assert [("'label'" in out, "'score'" in out) for out in blocks] == [(True, True), (True, True), (False, False)]
    assert "someone/name" in blocks[2]
    assert remote == local
    assert len([label for label in LABELS if label in int8]) == 7
    assert hub.escaped == []
