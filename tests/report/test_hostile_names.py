"""Names with markup, in every card, page and figure: they are shown as they are, and nothing in them does anything."""

import re
import warnings
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image
from report_figures import LABELS, evaluation

from fer_hf.collect.sheet import contact_sheet
from fer_hf.data import load_faces
from fer_hf.data.readers import toy
from fer_hf.report.dataset_card import dataset_card
from fer_hf.report.figures.classification import write_figures
from fer_hf.report.figures.comparison import comparison_figure
from fer_hf.report.figures.style import save_figure
from fer_hf.report.markdown import code, markdown
from fer_hf.report.model_card import card_text
from fer_hf.runs.records import Data, Evaluation, Metrics, Split, Training, read_record
from fer_hf.workflows.datasets import audit_faces

NAMES = (
    "<script>alert(1)</script>",
    "a|b || c",
    "`x` ``y``",
    "[z](http://evil) ![i](http://evil)",
    "line\nbreak\n\n# heading",
    "{{ 7 * 7 }}{% set x = 1 %}{# c #}",
    "- item",
    "# head #",
    "1. one",
    "$\\frac{1}{0}$ 100 % & &amp;",
    "**b** _i_ ~~s~~",
    '" onerror="x',
    "```\n```",
    "--- |:-- \\| \\",
)


def read(text: str) -> tuple[str, list]:
    """What a reader of a Markdown text sees, and its tokens."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    flat = [inner for token in tokens for inner in [token, *(token.children or [])]]
    seen = [t.content for t in flat if t.type in ("text", "code_inline", "fence", "text_special")]
    return " ".join("".join(seen).split()), flat


def check(text: str, body: str, names=NAMES) -> list:
    """That each name is seen in `body` as it is, in code or out of it, and that none is markup in all of `text`."""
    seen, _ = read(body)
    for name in names:
        plain = " ".join(name.split())
        assert plain in seen or str(code(plain))[1:-1] in seen, plain
    _, tokens = read(text)
    html = {t.content.strip() for t in tokens if t.type in ("html_inline", "html_block")}
    assert {line for block in html for line in block.splitlines() if "summary" not in line} <= {
        "<details>",
        "</details>",
    }
    assert not [t for t in tokens if "evil" in str(t.attrs)]
    return tokens


def front_matter(text: str) -> tuple[dict, str]:
    _, head, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(head), body


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_line_of_text_wherever_it_stands(name):
    plain = " ".join(name.split())
    for text in (f"{markdown(name)}", f"- {markdown(name)}", f"# {markdown(name)}", f"> {markdown(name)}"):
        assert read(text)[0] == plain, text
        assert {t.type for t in read(text)[1]} <= {
            *("paragraph_open", "paragraph_close", "inline", "text", "text_special", "heading_open", "heading_close"),
            *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
            *("blockquote_open", "blockquote_close"),
        }


def test_the_model_card(metrics):
    everything = " / ".join(NAMES)
    labels = ["# happy", "a|b <script>", "- $sad$\n"]
    counts = metrics["evaluations"]["fer2013-test"]["confusion_matrix"]
    metrics |= {"name": everything, "label_names": labels}
    metrics["evaluations"] = {"x": evaluation("test", "pytorch", counts, labels, dataset=everything)}
    metrics["data"] |= {"dataset": everything, "license": everything, "notes": NAMES}
    metrics["data"]["splits"] = {"train": {"images": 30, "per_class": dict.fromkeys(labels, 10)}}
    metrics["hub"] = {"license": everything, "tags": [everything], "repo_id": "someone/name"}
    metrics["model"] |= {"architecture": everything, "parent": everything, "weights": everything, "notes": NAMES}
    metrics["recipe"] |= {"report": {"title": everything, "description": everything, "author": everything}}
    metrics["recipe"]["model"] |= {"name": everything}
    metrics["recipe"]["train"]["stages"] = [{"trainable": [everything], "lr_scheduler_type": everything}]
    metrics["training"]["stages"] = [
        {"trainable": [name], "parameters": 1, "epochs": 1, "steps": 1, "learning_rate": 1} for name in NAMES[:2]
    ]
    metrics["environment"] |= {"platform": everything, "hardware": {"cpu": everything}}
    text = card_text(read_record(Metrics, metrics), ["confusion_matrix"])
    head, body = front_matter(text)
    assert head["model-index"][0]["name"] == " ".join(everything.split())
    tokens = check(body, body)
    tables = [t for t in tokens if t.type == "table_open"]
    assert len(tables) == 9
    for row in re.findall(r"(?s)<tr>(.*?)</tr>", MarkdownIt("commonmark").enable("table").render(body)):
        assert 2 <= len(re.findall("<t[hd]", row)) <= 9
    headings = [t.tag for t in tokens if t.type == "heading_open"]
    assert (headings.count("h1"), headings.count("h2")) == (1, 9)
    fences = {t.info: t.content for t in tokens if t.type == "fence"}
    assert yaml.safe_load(fences["yaml"]) == metrics["recipe"]
    entry = fences["bibtex"]
    assert entry.count("{") == entry.count("}")
    assert len(entry.splitlines()) == 7


def test_the_dataset_card():
    data = Data(
        source="folder",
        dataset=" / ".join(NAMES),
        license=" / ".join(NAMES),
        splits={"train": Split(3, dict.fromkeys(("# a", "b|c", "<d>"), 1))},
        notes=NAMES,
        dropped={"<script>": 3},
    )
    text = dataset_card(data, " / ".join(NAMES), {name: name for name in NAMES})
    head, body = front_matter(text)
    assert head["pretty_name"] == head["license_name"] == " ".join(" / ".join(NAMES).split())
    tokens = check(body, body)
    assert [t.tag for t in tokens if t.type == "heading_open"].count("h1") == 1


def test_figures_and_contact_sheets(tmp_path):
    labels = ["$\\frac{1}$", "_hidden|<b>", "line\nbreak"]
    counts = [[6, 1, 3], [0, 18, 2], [4, 0, 6]]
    dataset = " / ".join(NAMES)
    stages = [{"trainable": [name], "parameters": 1, "epochs": 1, "steps": 1, "learning_rate": 1} for name in NAMES]
    history = [{"epoch": n, "train_loss": 1, "validation_loss": 1, "accuracy": 0.5} for n in range(1, 4)]
    training = read_record(Training, {"history": history, "stages": stages})
    found = read_record(Evaluation, evaluation("test", "pytorch", counts, labels, dataset=dataset))
    rows = [
        SimpleNamespace(name=name, mean=0.5, low=0.4, high=0.6, x=n + 1, dataset=name, split="test", images=3)
        for n, name in enumerate(NAMES)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(write_figures(tmp_path, found, labels, training, dataset)) == 4
        save_figure(comparison_figure(rows, "accuracy", "latency"), tmp_path / "compare.png")
        contact_sheet([Image.new("L", (8, 8))] * len(NAMES), list(NAMES), title=dataset)


ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "b", "code"),
    *("table", "tr", "th", "td", "div", "span", "figure", "img", "br", "a", "main", "script"),
}


class Page(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags |= {(tag, name) for name, _ in attrs} or {(tag, None)}

    def handle_data(self, data):
        self.text += data


def test_the_page_of_an_audit_of_files_with_such_names(tmp_path):
    files = [name.replace("/", "_") for name in NAMES]
    root = tmp_path / files[0]
    for split in ("train", "test"):
        for label in LABELS[1:]:
            (root / split / label).mkdir(parents=True)
            for number, name in enumerate(files):
                face = toy.draw_face("happy", np.random.default_rng(number), size=32)  # copies, which are shown
                face.save(root / split / label / f"{name}.png")
    (root / "train" / "sad" / f"{files[0]}.jpg").write_bytes(b"no image")
    faces = load_faces(f"folder:{root}", None, check_images=False, purpose="inspection")
    page = Page(audit_faces(faces, tmp_path / "audit").page.read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags} <= ELEMENTS
    assert not {name for _, name in page.tags if name and name.startswith("on")}
    assert [name for name in files if name not in page.text] == []
