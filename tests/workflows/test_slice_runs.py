"""Slices of runs: from stored predictions into metrics.json, the figures and the terminal."""

import csv

import pytest
from face_folder import write_faces
from PIL import Image
from run_maker import LABELS, make_run

from fer_hf.data.appearance import appearance
from fer_hf.data.columns import make_split
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import figures_of, read_predictions, write_predictions
from fer_hf.workflows.evaluate import evaluate
from fer_hf.workflows.people import slice_people
from fer_hf.workflows.slices import slice_run

KEY = "toy-test"


def add_attributes(run: Run, **attributes: list) -> None:
    """Attributes in the predictions of a made-up run, as `evaluate` writes them."""
    file = run.predictions / f"{KEY}.parquet"
    data = read_predictions(file)
    content = make_split(data.label_names, [b""] * len(data.ids), data.labels.tolist(), data.ids, **attributes)
    write_predictions(file, content, data.logits)
    run.update(evaluations={KEY: run.metrics.evaluations[KEY].__dict__ | figures_of(file)})


@pytest.fixture
def run(tmp_path) -> Run:
    """Women are always recognised, men mostly; ages are those of RAF-DB."""
    references = [LABELS[number % 3] for number in range(300)]
    predicted = [name if number % 2 or number % 5 else "sad" for number, name in enumerate(references)]
    made = make_run(tmp_path / "run [b]", predicted, references)
    gender = [None if number < 4 else "female" if number % 2 else "male" for number in range(300)]
    add_attributes(made, gender=gender, age=["0-3" if number % 3 else "70+" for number in range(300)])
    return made


def test_all_that_is_known_is_sliced(run):
    result = slice_run(run)
    assert [each.attributes for each in result.slices] == [("gender",), ("age",), ("gender", "age")]
    stored = run.metrics.slices
    assert list(stored) == [f"{KEY}/gender", f"{KEY}/age", f"{KEY}/gender,age"]
    gender = stored[f"{KEY}/gender"]
    assert (gender.evaluation, gender.unknown, gender.tested) == (KEY, 4, 3)
    assert (tuple(gender.best), tuple(gender.worst)) == (("female",), ("male",))
    assert gender.gap == result.slices[0].gap
    for file, groups in zip(result.figures, (2, 2, 4), strict=True):
        assert file.parent == run.figures
        with Image.open(file) as picture:
            assert picture.width == 1050
            assert picture.height == pytest.approx(150 * (1.9 + 0.3 * groups), abs=2)


def test_the_command_prints_what_it_found(cli, run):
    code, out, err = cli("slices", run.path, "--by", "gender", "--by", "age,gender")
    assert code == 0, err
    assert "toy test: 300 images" in out
    assert "Accuracy is 12.8 points [" in out
    assert "higher for female (100.0%) than for male (87.2%): more than chance (p < 0.001, corrected for 2 gaps)" in out
    assert "Of 4 images gender is not known." in out
    assert "70+, female" in out
    code, _, err = cli("slices", run.path, "--by", "city")
    assert code == 2
    assert "Of no image is 'city' known. Attributes that the predictions have: gender, age." in err


def test_without_attributes_it_is_said_what_would_give_some(tmp_path):
    made = make_run(tmp_path / "run", ["happy"] * 40, ["happy"] * 40)
    with pytest.raises(UserError, match=r"Nothing is known of the images of toy .* RAF-DB .* --by brightness"):
        slice_run(made)
    slice_people(made, KEY)
    assert not made.metrics.slices


def test_only_people_are_sliced_unasked(run):
    add_attributes(run, gender=["female", "male"] * 150, source=["a", "b"] * 150)
    slice_people(run, KEY)
    assert list(run.metrics.slices) == [f"{KEY}/gender"]


def test_evaluating_people_slices_them(tiny_model, tmp_path):
    write_faces(tmp_path / "faces", train=1, validation=1, test=6)
    files = sorted((tmp_path / "faces/test").rglob("*.png"))
    with open(tmp_path / "faces/test/metadata.csv", "w", newline="") as table:
        rows = [
            (file.relative_to(tmp_path / "faces/test").as_posix(), "F" if n % 2 else "M")
            for n, file in enumerate(files)
        ]
        csv.writer(table).writerows([("file_name", "gender"), *rows])
    evaluation = evaluate(tiny_model, f"folder:{tmp_path / 'faces'}", output=tmp_path / "out")
    [(key, slices)] = Run(tmp_path / "out").metrics.slices.items()
    assert key == f"{evaluation.predictions.split('/')[1].removesuffix('.parquet')}/gender"
    assert [(list(group.values), group.images, group.small) for group in slices.groups] == [
        (["female"], 21, True),
        (["male"], 21, True),
    ]


def test_brightness_and_size_are_measured_of_the_runs_own_images(tmp_path):
    write_faces(tmp_path / "faces", train=2, validation=1, test=6)
    names = LABEL_SETS["fer7"]
    ids = [f"test/{n}/toy-test-{n}-{i:04}.png" for n in names for i in range(6)]
    references = [name.split("/")[1] for name in ids]
    settings = {"source": f"folder:{tmp_path / 'faces'}"}
    made = make_run(tmp_path / "run", references, references, ids=ids, labels=names, data=settings)
    for name in ids[:21]:  # half of them get dark
        with Image.open(tmp_path / "faces" / name) as picture:
            picture.point(lambda value: value // 8).save(tmp_path / "faces" / name)
    result = slice_run(made, ["brightness", "size"])
    dark, *_, bright = result.slices[0].groups
    assert dark.values[0].startswith("0.0")
    assert float(bright.values[0].split()[0]) > 0.3
    assert [tuple(group.values) for group in result.slices[1].groups] == [("32",)]
    assert result.tables[1].sentences == ["There is no gap to measure: only one group is large enough."]
    made = make_run(tmp_path / "other", ["sad"], ["sad"], ids=["gone"], labels=names, data=settings)
    with pytest.raises(UserError, match="lacks 1 of the predicted images, such as 'gone': evaluate again"):
        slice_run(made, ["size"])


def test_appearance_is_that_of_the_file(tmp_path):
    pictures = Image.new("L", (20, 20), 51), Image.new("RGB", (90, 10), (255, 0, 0))
    files = [str(tmp_path / f"{number}.png") for number in range(2)]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
    measured = appearance(make_split(LABELS, files, [0, 0], ["a", "b"]))
    assert measured["brightness"] == pytest.approx([0.2, 0.299], abs=0.005)  # ITU-R BT.601
    assert measured["size"] == [20, 30]
