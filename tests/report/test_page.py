"""The page of a run: it shows what was measured, names what was not and what is broken, and reaches for nothing."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from report_figures import LABELS, evaluation

from fer_hf.report.html import TEMPLATES
from fer_hf.report.material import Baseline, Material, Pictures
from fer_hf.report.page import SECTIONS, run_page
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import figures_of, write_predictions
from fer_hf.runs.records import Metrics, read_record

EVIL = '<script>alert(1)</script>" onerror="x'
VOID = {"meta", "img", "br"}
ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.6}
SCORES = dict.fromkeys(
    ("accuracy", "log_loss", "brier_score", "expected_calibration_error", "classwise_calibration_error"), 0.25
) | {"adaptive_calibration_error": 0.125}


class Read(HTMLParser):
    """The text of each section, all tags with their attributes, and whether every tag is closed."""

    def __init__(self, page: str):
        super().__init__()
        self.sections: dict[str, str] = {"": ""}
        self.tags: list = []
        self.attributes: list = []
        self.open: list = []
        self.text = ""
        self.current = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *each) for each in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.current = dict(attrs)["id"]
            self.sections[self.current] = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self.current = ""

    def handle_data(self, data):
        self.sections[self.current] += data
        self.text += data


def with_predictions(folder, names=LABELS, images=60, key="fer2013-test"):
    """A run with predictions of made-up images, and the evaluation that they give."""
    run = Run(folder)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(names), images)
    logits = rng.normal(size=(images, len(names))).astype(np.float32)
    logits[np.arange(images), labels] += 1
    content = {"id": [f"{EVIL} {number}" for number in range(images)], "label": labels.tolist()}
    features = Features({"id": Value("string"), "label": ClassLabel(names=list(names))})
    file = run.predictions / f"{key}.parquet"
    write_predictions(file, Dataset.from_dict(content, features=features), logits)
    found = {"dataset": "FER2013", "split": "test", "predictions": f"predictions/{key}.parquet"}
    return run, {key: found | figures_of(file)}


def read(run, metrics, **others) -> Read:
    return Read(run_page(Material(run, read_record(Metrics, metrics), **others)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return with_predictions(tmp_path_factory.mktemp("made"))


def analyses(key):
    """A record of every analysis."""
    corruption = {"accuracy": 0.5, "macro_f1": 0.5, "expected_calibration_error": 0.1}
    group = {"images": 30, "accuracy": ESTIMATE, "macro_f1": ESTIMATE}
    return {
        "calibration": {
            key: {
                "fitted_on": "fer2013-validation",
                "measured_on": key,
                "temperature": 1.5,
                "methods": dict.fromkeys(("none", "temperature"), SCORES),
                "abstention": [
                    {"target_error": 0.1, "threshold": 0.7, "coverage": 0.4, "error": 0.12},
                    {"target_error": 0.01, "threshold": None, "coverage": 0.0, "error": None},
                ],
                "conformal": {
                    "level": 0.9,
                    "threshold": 0.1,
                    "coverage": {"value": 0.7, "low": 0.6, "high": 0.8},
                    "mean_size": 2.0,
                    "sizes": [0, 20, 20, 20],
                },
            }
        },
        "slices": {
            key: {
                "evaluation": key,
                "attributes": [EVIL],
                "groups": [group | {"values": [EVIL]}, group | {"values": ["b"], "small": True}],
                "gap": ESTIMATE,
                "best": [EVIL],
                "worst": ["b"],
                "p": 0.001,
                "tested": 1,
            }
        },
        "robustness": {
            key: {
                "evaluation": key,
                "images": 60,
                "clean": corruption | {"name": "clean", "strength": 0, "accuracy": 0.75},
                "corruptions": [corruption | {"name": "jpeg", "strength": s, "accuracy": 0.6} for s in range(1, 6)],
                "mean_corruption_error": 0.4,
            }
        },
        "explanations": {
            key: {
                "evaluation": key,
                "method": "Grad-CAM",
                "layer": EVIL,
                "images": 6,
                "road": ESTIMATE,
                "road_random": ESTIMATE,
                "better_than_random": False,
                "sheet": "explain/sheet.png",
            }
        },
        "domains": {"a": {"first": EVIL, "second": "b", "images": [1, 2], "frechet": 1.5, "mmd": 0.01}},
    }


def test_all_that_was_measured_is_shown_and_nothing_in_a_name_is_markup(made, metrics):
    run, evaluations = made
    key, found = next(iter(evaluations.items()))
    copies = {"audit": EVIL, "images": 50, "copies": 10, "accuracy": ESTIMATE, "macro_f1": ESTIMATE}
    found = found | {"without_copies": copies | {"difference": ESTIMATE, "accuracy_of_copies": 1.0}}
    metrics |= {"evaluations": {key: found}, "name": EVIL} | analyses(key)
    metrics["data"] |= {"dataset": EVIL, "notes": [EVIL], "license": EVIL}
    metrics["model"] |= {"architecture": EVIL, "notes": [EVIL]}
    metrics["environment"] |= {"platform": EVIL}
    metrics["recipe"] |= {"report": {"title": EVIL, "author": EVIL}}
    page = read(run, metrics, pictures=Pictures({f"{EVIL} {n}": b"jpeg" for n in range(60)}))
    assert page.open == []
    assert list(page.sections)[1:] == list(SECTIONS)
    assert not [text for text in page.sections.values() if "could not be drawn" in text]
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("script") == 1
    for section in ("data", "configuration", "copies", "slices", "explanation", "datasets", "errors", "environment"):
        assert EVIL in page.sections[section], section
    for section, text in {
        "calibration": "The temperature is 1.500",
        "abstention": "and that was missed",
        "copies": "The difference is more than chance",
        "robustness": "accuracy is 75.0%",
        "explanation": "no better than random ones",
        "summary": "Quote the accuracy without copies",
        "baseline": "fer-hf report RUN --baseline RUN2",
    }.items():
        assert text in " ".join(page.sections[section].split()), section
    assert page.tags.count("img") == len([tag for tag, name, value in page.attributes if (tag, name) == ("img", "alt")])
    reached = {value.split(",")[0].split(";")[0] for _, name, value in page.attributes if name in ("src", "href")}
    assert all(value.startswith(("data:image/", "#")) for value in reached)


def test_what_was_not_measured_is_named_with_its_command(made, metrics):
    run, evaluations = made
    page = read(run, metrics | {"evaluations": evaluations, "export": {}})
    for section, command in {
        "calibration": "fer-hf calibrate RUN",
        "abstention": "fer-hf calibrate RUN",
        "copies": "fer-hf evaluate RUN --copies find",
        "slices": "fer-hf slices RUN",
        "datasets": "fer-hf evaluate RUN --data SOURCE",
        "robustness": "fer-hf robustness RUN",
        "explanation": "fer-hf explain RUN",
        "exports": "fer-hf export RUN --int8",
    }.items():
        assert command in page.sections[section], section


def test_one_broken_record_or_file_takes_nothing_else_away(tmp_path, metrics):
    run, evaluations = with_predictions(tmp_path)
    made = metrics | {"evaluations": evaluations} | analyses("fer2013-test")
    content = json.loads(json.dumps(made))  # with nothing shared
    content["slices"]["fer2013-test"]["groups"][0]["accuracy"]["value"] = float("nan")
    content["robustness"]["fer2013-test"] = {"evaluation": 3}
    run.metrics_file.write_text(json.dumps(content))
    readable, problems = run.readable_metrics()
    assert set(problems) == {"slices.fer2013-test", "robustness.fer2013-test"}
    (run.predictions / "fer2013-test.parquet").unlink()
    page = Read(run_page(Material(run, readable, problems)))
    assert "slices.fer2013-test: groups.0.accuracy.value" in page.sections["summary"]
    missing = {name for name, text in page.sections.items() if "parquet is missing" in text}
    assert missing == {"curves", "confidence", "calibration", "abstention", "selective", "errors"}
    assert "happy" in page.sections["classes"]
    assert "The temperature is 1.500" in page.sections["calibration"]  # what needs no predictions is there


@pytest.mark.parametrize(
    ("counts", "changed"),
    [
        ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], {"training": None}),
        ([[6, 1, 3], [0, 18, 2], [0, 0, 0]], {"data": None, "model": None, "environment": {}, "recipe": {}}),
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], {"training": {"history": [], "seconds": 1.0}}),
    ],
    ids=["one image, no training", "a class without images, nothing recorded", "all wrong, no validation"],
)
def test_little_is_a_page_too(tmp_path, metrics, counts, changed):
    found = evaluation("test", "pytorch", counts, dataset="Other") | {"own": False}
    page = read(Run(tmp_path), metrics | {"evaluations": {"other-test": found}} | changed)
    assert not [text for text in page.sections.values() if "could not be drawn" in text]
    assert "Other" in page.sections["summary"]
    assert not re.search(r"\bnan\b", " ".join(page.sections[name] for name in SECTIONS).lower())


def test_a_baseline_is_drawn_and_only_sure_changes_are_called_that(made, metrics):
    from fer_hf.evaluation.compare import Change

    run, evaluations = made
    changes = [
        Change("this", "accuracy", 0.5, 4.0, -1.0, 9.0, 0.12),
        Change("this", "angry", 0.5, 9.0, 3.0, 15.0, 0.01),
        Change("this", "happy", 0.5, -7.0, -15.0, 1.0, 0.2),
    ]
    page = read(run, metrics | {"evaluations": evaluations}, baseline=Baseline(EVIL, changes))
    text = " ".join(page.sections["baseline"].split())
    assert "accuracy differs by +4.0 points [-1.0, 9.0], which chance could explain." in text
    assert "Classes that are surely better: angry." in text
    assert "Classes that are surely worse: none." in text


def test_the_policy_lets_nothing_but_our_script_run(made, metrics):
    run, evaluations = made
    text = run_page(Material(run, read_record(Metrics, metrics | {"evaluations": evaluations})))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http" not in policy
    assert '<html lang="en">' in text


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_can_be_told_from_its_ground(theme):
    style = (TEMPLATES / "base.html.jinja").read_text()
    colours = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", style, re.S)]
    own = colours[theme]
    for text in ("ink", "quiet", "link", "warn"):
        for ground in ("paper", "stripe", "note-paper", "warn-paper"):
            light, dark = sorted((luminance(own[text]), luminance(own[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)  # WCAG 2.2, AA
