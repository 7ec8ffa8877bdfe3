"""The whole card against a pattern, its metadata through the Hub's own parser, and what must never get into it."""

import json
import re

import pytest
from huggingface_hub import ModelCard
from report_figures import LABELS, evaluation

from fer_hf.errors import UserError
from fer_hf.report.model_card import card_text, write_report
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Metrics, read_record

WARNING = "Very probably trained on FER2013's own test images: scores on FER2013 that start from it are inflated."


@pytest.fixture
def metrics():
    per_class = {"angry": 100, "happy": 260, "sad": 40}
    return {
        "schema_version": 1,
        "name": "tiny_fer",
        "label_names": LABELS,
        "recipe": {
            "name": "tiny_fer",
            "model": {"name": "resnet10t", "pretrained": False, "image_size": 48},
            "data": {"source": "fer2013:PATH", "label_set": ["angry", "happy", "sad"]},
            "train": {"num_train_epochs": 3, "learning_rate": 0.001, "seed": 42, "save_steps": 100},
            "loss": {"label_smoothing": 0.1},
            "augment": {"enabled": True, "crop_scale": [0.8, 1.0]},
        },
        "data": {
            "source": "fer2013",
            "dataset": "FER2013",
            "hub_id": None,
            "license": "DbCL 1.0 (as published on Kaggle)",
            "splits": {
                "train": {"images": 400, "per_class": per_class},
                "validation": {"images": 40, "per_class": {}},
                "test": {"images": 40, "per_class": {"angry": 10, "happy": 20, "sad": 10}},
            },
            "skipped": ["broken.png"],
            "dropped": {"contempt": 1200, "fear": 0},
            "notes": ["The test split is PrivateTest."],
        },
        "model": {
            "base_model": None,
            "architecture": "resnet10t",
            "pretrained": False,
            "parameters": 4923895,
            "image_size": [48, 48],
            "head": "new (random)",
            "notes": [],
        },
        "training": {
            "epochs": 3,
            "steps": 1200,
            "seconds": 2340.0,
            "images_per_second": 171.84,
            "effective_batch_size": 64,
            "processes": 1,
            "precision": "fp32",
            "seed": 42,
            "peak_memory_mb": 1500.2,
            "stopped_early": False,
            "resumed_at_steps": [],
            "best": {"metric": "macro_f1", "value": 0.7, "epoch": 3.0, "step": 1200},
            "history": [
                {"epoch": 1.0, "train_loss": 1.0, "validation_loss": 0.9, "accuracy": 0.6, "macro_f1": 0.5},
                {"epoch": 2.0, "train_loss": 0.8, "validation_loss": 0.7, "accuracy": 0.7, "macro_f1": 0.65},
                {"epoch": 3.0, "train_loss": 0.5, "validation_loss": 0.8, "accuracy": 0.75, "macro_f1": 0.7},
            ],
        },
        "evaluations": {
            "fer2013-validation-int8": evaluation("validation", "int8", [[5, 1, 4], [0, 18, 2], [4, 0, 6]]),
            "fer2013-validation": evaluation("validation", "pytorch", [[7, 1, 2], [0, 18, 2], [4, 0, 6]]),
            "fer2013-validation-onnx": evaluation("validation", "onnx", [[7, 1, 2], [0, 18, 2], [4, 0, 6]]),
            "fer2013-test": evaluation("test", "pytorch", [[6, 1, 3], [0, 18, 2], [4, 0, 6]]),
        },
        "export": {
            "onnx": {"file": "onnx/model.onnx", "megabytes": 19.84, "max_logit_difference": 3e-06},
            "int8": {
                "file": "onnx/model_int8.onnx",
                "megabytes": 5.1,
                "calibration": "minmax",
                "calibration_images": 512,
            },
        },
        "hub": {"license": "apache-2.0", "tags": ["faces", "emotion"]},
        "environment": {
            "python": "3.11.7",
            "platform": "Linux",
            "packages": {"torch": "2.15.0"},
            "hardware": {"cpu": "Some CPU", "cores": 2, "memory_gb": 8.0, "gpu": None},
            "git_commit": None,
        },
    }


def card_of(metrics: dict) -> str:
    return card_text(read_record(Metrics, metrics))


@pytest.fixture
def run(tmp_path, metrics):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.metrics_file.write_text(json.dumps(metrics))
    return run


# The whole card; `<...>` stands for any text within one line.
EXPECTED = """\
---
library_name: transformers
license: apache-2.0
metrics:
- accuracy
- f1
pipeline_tag: image-classification
tags:
- facial-expression-recognition
- emotion
- fer
- onnx
- int8
- faces
model-index:
- name: tiny_fer
  results:
  - task:
      type: image-classification
      name: Facial expression recognition
    dataset:
      name: FER2013
      type: fer2013
      split: test
    metrics:
    - type: accuracy
      value: 0.75
      name: Accuracy
    - type: f1
      value: 0.6982
      name: Macro F1
    - type: balanced_accuracy
      value: 0.7
      name: Balanced accuracy
---

# tiny_fer

An image classifier that says which of 3 facial expressions <...>: angry, happy, sad.

**Accuracy on the test split of FER2013: 75.0% [65.0, 85.0]**, macro F1 69.8% [57.8, 81.8], on 40 images. <...>

It labels *perceived* expressions. <...>

## How to use

```bash
pip install "transformers>=4.57" torch torchvision timm pillow
```

```python
from transformers import pipeline

classifier = pipeline("image-classification", model="PATH/TO/MODEL")
print(classifier("face.jpg"))
```

`face.jpg` is a picture of one face<...>

With ONNX Runtime (`pip install "optimum-onnx[onnxruntime]"`):

```python
<...>
<...>

model = ORTModelForImageClassification.from_pretrained(
    "PATH/TO/MODEL", subfolder="onnx", file_name="model.onnx"
)
processor = AutoImageProcessor.from_pretrained("PATH/TO/MODEL")
<...>
print(classifier("face.jpg"))
```

The INT8 file is loaded in the same way:

```python
<...>
<...>

model = ORTModelForImageClassification.from_pretrained(
    "PATH/TO/MODEL", subfolder="onnx", file_name="model_int8.onnx"
)
processor = AutoImageProcessor.from_pretrained("PATH/TO/MODEL")
<...>
print(classifier("face.jpg"))
```

## Model

| Property               | Value               |
| ---------------------- | ------------------- |
| Architecture           | resnet10t           |
| Starts from            | random weights      |
| Classifier head        | new (random)        |
| Parameters             | 4,923,895           |
| Input                  | 48 × 48 pixels, RGB |
| Licence of the weights | apache-2.0          |

## Uses

**Intended:** <...>

**Out of scope:** <...>

**Perceived expression is not inner emotion.** <...>Barrett et al., 2019<...>

**Law.** <...>

- Art. 5(1)(f): <...>
- Annex III, 1(c): <...>
- Art. 50(3): <...>

## Results

| Data               | Format       |           Accuracy |           Macro F1 | Balanced | Top-2 |  ECE | Log loss |
| ------------------ | ------------ | -----------------: | -----------------: | -------: | ----: | ---: | -------: |
| FER2013 test       | PyTorch      | 75.0% [65.0, 85.0] | 69.8% [57.8, 81.8] |    70.0% | 92.5% | 6.2% |    0.732 |
| FER2013 validation | PyTorch      | 77.5% [67.5, 87.5] | 73.0% [61.0, 85.0] |    73.3% | 92.5% | 6.2% |    0.732 |
| FER2013 validation | ONNX float32 | 77.5% [67.5, 87.5] | 73.0% [61.0, 85.0] |    73.3% | 92.5% | 6.2% |    0.732 |
| FER2013 validation | ONNX INT8    | 72.5% [62.5, 82.5] | 66.5% [54.5, 78.5] |    66.7% | 92.5% | 6.2% |    0.732 |

<...> The validation split chose the best epoch, so its figures lean to the good side.

### Exported files

- `onnx/model.onnx`: 19.8 MB; its logits differ from PyTorch's by at most 3.0e-06.
- `onnx/model_int8.onnx`: 5.1 MB, static quantisation with minmax calibration on 512 training images.
- ONNX float32 leaves accuracy as it is on FER2013 validation: 77.5% with PyTorch, 77.5% with ONNX float32.
- ONNX INT8 changes accuracy by -5.0 points on FER2013 validation: 77.5% with PyTorch, 72.5% with ONNX INT8.

### By class

The rest of this section is about the PyTorch model on the test split of FER2013.

| Class | Precision | Recall |    F1 | Images |
| ----- | --------: | -----: | ----: | -----: |
| angry |     60.0% |  60.0% | 60.0% |     10 |
| happy |     94.7% |  90.0% | 92.3% |     20 |
| sad   |     54.5% |  60.0% | 57.1% |     10 |

- **Strong** (F1 above 85%): happy (92.3%)
- **Moderate** (F1 60% to 85%): angry (60.0%)
- **Weak** (F1 below 60%): sad (57.1%)

![<...>](figures/per_class.png)

### Confusions

- sad → angry: 4, 40.0% of sad
- angry → sad: 3, 30.0% of angry

![<...>](figures/confusion_matrix.png)

### Calibration

The expected calibration error is 6.2%. <...>

![<...>](figures/reliability.png)

### Strengths and limits in figures

Strengths:

- Accuracy is 25.0 points above that of always answering “happy”, the commonest class (50.0%).
- “happy” is recognised best: F1 92.3%, precision 94.7%, recall 90.0%.
- For 92.5% of the images the true class is one of the two most probable.

Limits:

- “sad” is recognised worst: F1 57.1%, precision 54.5%, recall 60.0%.
- Balanced accuracy is 5.0 points below accuracy: rare classes do worse than frequent ones.
- Few images, so uncertain figures: angry (10), happy (20), sad (10).
- Probabilities are under-confident: mean confidence is 70.0% at an accuracy of 75.0% (<...> error 6.2%).

## Bias and missing measurements

- Accuracy by gender, age and skin tone, and by their intersections, was **not measured**: <...>
- The labels are the judgements of annotators and carry their habits and culture.
- No figure here is from a dataset other than <...>

## Training data

FER2013. Licence: DbCL 1.0 (as published on Kaggle).

| Class |       train | validation |       test |
| ----- | ----------: | ---------: | ---------: |
| angry | 100 (25.0%) |          – | 10 (25.0%) |
| happy | 260 (65.0%) |          – | 20 (50.0%) |
| sad   |  40 (10.0%) |          – | 10 (25.0%) |
| all   |         400 |         40 |         40 |

The commonest training class (happy) has 6.5 times the images of the rarest (sad). Over-represented, <...>: happy. \
Under-represented, <...>: sad.

- Images of contempt left out, because the label set has no such class: 1,200.
- Images skipped, because they could not be read: 1.
- The test split is PrivateTest.

## Training procedure

3 epochs, 1,200 optimiser steps of 64 images, in 39 min (171.8 images/s). The weights are those of epoch 3, chosen by \
`macro_f1` on the validation split (70.0%).

| Condition        | Value             |
| ---------------- | ----------------- |
| Hardware         | Some CPU, 2 cores |
| Processes        | 1                 |
| Precision        | fp32              |
| Peak memory      | 1,500 MB          |
| Seed             | 42                |
| Resumed at steps | never             |
| Energy use       | not measured      |

Validation loss has risen since epoch 2 while training loss kept falling (validation 0.700 to 0.800, training 0.800 to \
0.500): the model over-fits from there on. <...>

![<...>](figures/learning_curves.png)

<details>
<summary>All epochs</summary>

|    Epoch | Training loss | Validation loss | Accuracy | Macro F1 |
| -------: | ------------: | --------------: | -------: | -------: |
|        1 |         1.000 |           0.900 |    60.0% |    50.0% |
|        2 |         0.800 |           0.700 |    70.0% |    65.0% |
| 3 (best) |         0.500 |           0.800 |    75.0% |    70.0% |

</details>

### Hyper-parameters

| Setting                  | Value     |
| ------------------------ | --------- |
| `model.name`             | resnet10t |
| `model.pretrained`       | false     |
| `model.image_size`       | 48        |
| `train.num_train_epochs` | 3         |
| `train.learning_rate`    | 0.001     |
| `train.seed`             | 42        |
| `loss.label_smoothing`   | 0.1       |
| `augment.enabled`        | true      |
| `augment.crop_scale`     | 0.8, 1.0  |

## Reproduction

Save the recipe below as `recipe.yaml`, put the path of your copy of the data into `data.source`, and run:

```bash
fer-hf train recipe.yaml
```

<details>
<summary>The recipe, with every default filled in</summary>

```yaml
name: tiny_fer
model:
  name: resnet10t
  pretrained: false
  image_size: 48
data:
  source: fer2013:PATH
  label_set:
  - angry
  - happy
  - sad
train:
  num_train_epochs: 3
  learning_rate: 0.001
  seed: 42
  save_steps: 100
loss:
  label_smoothing: 0.1
augment:
  enabled: true
  crop_scale:
  - 0.8
  - 1.0
```

</details>

<details>
<summary>Environment</summary>

| Software   | Version      |
| ---------- | ------------ |
| python     | 3.11.7       |
| platform   | Linux        |
| git commit | not recorded |
| torch      | 2.15.0       |

</details>

Every figure of this card comes from the run's `metrics.json`, <...>
"""


def test_the_whole_card(run):
    card = write_report(run)
    assert card == run.model / "README.md"
    lines = card.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ").splitlines()
    for line, expected in zip(lines, EXPECTED.splitlines(), strict=False):  # line by line, for a readable failure
        assert re.fullmatch(re.escape(expected).replace(re.escape("<...>"), ".*"), line), (line, expected)
    assert len(lines) == len(EXPECTED.splitlines())


def test_every_image_is_there_and_every_table_lines_up(run):
    card = write_report(run)
    text = card.read_text(encoding="utf-8")
    images = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert len(images) == 4
    assert all((card.parent / image).is_file() for image in images)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 8
    for rows in map(str.splitlines, tables):
        assert len({len(row) for row in rows}) == 1, rows
        assert len({tuple(m.start() for m in re.finditer(r"\|", row)) for row in rows}) == 1, rows


def test_metadata_goes_through_the_hubs_own_parser(metrics):
    metrics["data"]["hub_id"] = "someone/fer2013"
    metrics["model"]["base_model"] = "google/vit-base-patch16-224-in21k"
    data = ModelCard(card_of(metrics)).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "transformers",
        "image-classification",
        "apache-2.0",
    )
    assert (data.base_model, data.datasets) == ("google/vit-base-patch16-224-in21k", ["someone/fer2013"])
    test = metrics["evaluations"]["fer2013-test"]
    got = {result.metric_type: result for result in data.eval_results}
    for kind, key in (("accuracy", "accuracy"), ("f1", "macro_f1"), ("balanced_accuracy", "balanced_accuracy")):
        assert got[kind].metric_value == pytest.approx(test[key], abs=5e-5)
        assert (got[kind].dataset_type, got[kind].dataset_split) == ("someone/fer2013", "test")


def test_a_validation_figure_is_never_called_test(metrics):
    del metrics["evaluations"]["fer2013-test"]
    text = card_of(metrics)
    assert "**Accuracy on the validation split of FER2013: 77.5% [67.5, 87.5]**" in text
    assert "> **This is not a test score.**" in text
    assert {result.dataset_split for result in ModelCard(text).data.eval_results} == {"validation"}
    assert text.count("test split") == 2  # "no figures on a test split", and the note on how the data were split


def test_the_test_split_of_the_training_data_comes_first(metrics):
    metrics["evaluations"] = {
        "ck-test": evaluation("test", "pytorch", [[9, 1], [0, 5]], ["angry", "happy"], "ck"),
        "fer2013-test-int8": evaluation("test", "int8", [[9, 0, 1], [0, 9, 1], [0, 0, 9]]),
        **metrics["evaluations"],
    }
    text = card_of(metrics)
    assert "**Accuracy on the test split of FER2013: 75.0%" in text
    assert re.search(r"\| ck test +\| PyTorch +\| 93.3%", text)
    del metrics["evaluations"]["fer2013-test"]
    metrics["evaluations"].pop("fer2013-validation")
    text = card_of(metrics)  # now the classes of the headline are those of the other dataset
    assert "**Accuracy on the test split of ck: 93.3%" in text
    assert "which of 2 facial expressions" in text


def test_other_data_of_the_same_name_are_marked_and_never_the_headline(metrics):
    cleaned = evaluation("test", "pytorch", [[10, 0, 0], [0, 20, 0], [0, 1, 9]]) | {"content": "c" * 64, "own": False}
    metrics["evaluations"] = {
        "fer2013-test-cccccccc": cleaned,
        "fer2013-test": metrics["evaluations"]["fer2013-test"] | {"content": "a" * 64, "own": True},
    }
    text = card_of(metrics)
    assert "**Accuracy on the test split of FER2013: 75.0%" in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| FER2013")]
    assert rows == ["FER2013 test", "FER2013 test (cccccccc)"]


def test_every_top_k_is_a_column_with_a_dash_where_it_was_not_measured(metrics):
    metrics["evaluations"]["fer2013-test"]["top_k_accuracy"] = {"3": 0.987}
    card = card_text(read_record(Metrics, metrics))
    assert "| Balanced | Top-2 | Top-3 |  ECE |" in card
    assert "|    70.0% | 92.5% | 98.7% | 6.2% |" in card
    assert "|    73.3% | 92.5% |     – | 6.2% |" in card


def test_augmented_figures_are_labelled_and_never_the_main_ones(metrics):
    plain = card_of(metrics)
    flip = evaluation("test", "pytorch", [[10, 0, 0], [0, 20, 0], [0, 1, 9]]) | {"tta": "flip"}
    crops = evaluation("validation", "int8", [[10, 0, 0], [0, 20, 0], [0, 1, 9]]) | {"tta": "ten_crop"}
    metrics["evaluations"] = {"fer2013-test-flip": flip, "fer2013-v": crops, **metrics["evaluations"]}
    text = card_of(metrics)
    rows = [
        [cell.strip() for cell in line.split("|")[2:4]] for line in text.splitlines() if line.startswith("| FER2013")
    ]
    assert [row[0] for row in rows] == [
        *("PyTorch", "PyTorch + flip"),
        *("PyTorch", "ONNX float32", "ONNX INT8", "ONNX INT8 + ten crops"),
    ]
    assert rows[1][1].startswith("97.5%")
    table_of_results = re.search(r"(?s)\n\| Data .*?\n\n.*?\n", text)
    assert "test-time augmentation" in table_of_results[0]
    assert "test-time augmentation" not in plain
    unlabelled = text.replace(table_of_results[0], "")
    assert unlabelled == plain.replace(re.search(r"(?s)\n\| Data .*?\n\n.*?\n", plain)[0], "")
    metrics["evaluations"] = {"fer2013-test-flip": flip}
    with pytest.raises(UserError, match=r"no evaluation of the PyTorch model"):
        card_of(metrics)


def test_notes_on_the_base_model_stand_at_the_top(metrics):
    metrics["model"] |= {"base_model": "dima806/facial_emotions_image_detection", "notes": [WARNING]}
    text = card_of(metrics)
    assert f"> **Note.** {WARNING}" in text.split("## How to use")[0]
    assert "| `dima806/facial_emotions_image_detection` |" in text


def test_a_model_that_was_only_evaluated(tmp_path, metrics):
    for name in ("training", "export", "recipe", "data", "model", "hub", "environment"):
        del metrics[name]
    run = Run(tmp_path)
    run.metrics_file.write_text(json.dumps(metrics))
    text = write_report(run).read_text(encoding="utf-8")
    assert "this model was evaluated only" in text
    assert "no record of the training data" in text
    assert 'model="PATH/TO/MODEL"' in text
    assert "learning_curves" not in text
    assert "onnx" not in text.split("## Results")[0]
    assert not re.search(r"\b(None|Undefined|nan)\b|\{\{|\{%", text)
    assert ModelCard(text).data.license == "other"


def test_drawn_faces_are_said_to_be_drawn(metrics):
    metrics["data"] |= {"source": "toy", "dataset": "toy"}
    text = card_of(metrics)
    assert "**Drawn faces only.**" in text
    assert "annotators" not in text


HOSTILE = "a|b\n---\n`x` *y* <script> [z](u): {# & \"q' _w_ ```"


def test_hostile_names_break_neither_metadata_nor_tables_nor_lists(tmp_path, metrics):
    labels = [HOSTILE, "# happy", "- $sad$"]
    counts = metrics["evaluations"]["fer2013-test"]["confusion_matrix"]
    metrics |= {"name": HOSTILE, "label_names": labels}
    metrics["evaluations"] = {"x": evaluation("test", "pytorch", counts, labels)}
    metrics["data"] |= {"dataset": HOSTILE, "license": HOSTILE, "notes": [HOSTILE, "--- x", "1. x", "> x"]}
    metrics["data"]["splits"]["train"]["per_class"] = dict(zip(labels, (100, 260, 40), strict=True))
    metrics["hub"] = {"license": HOSTILE, "tags": [HOSTILE]}
    metrics["model"] |= {"architecture": HOSTILE, "base_model": HOSTILE, "notes": [HOSTILE]}
    metrics["recipe"] |= {HOSTILE: HOSTILE, "report": {"title": HOSTILE, "description": HOSTILE}}
    metrics["recipe"]["train"][HOSTILE] = HOSTILE
    metrics["environment"] |= {"packages": {HOSTILE: HOSTILE}}
    run = Run(tmp_path)
    run.metrics_file.write_text(json.dumps(metrics))
    text = write_report(run).read_text(encoding="utf-8")

    one_line = " ".join(HOSTILE.split())
    data = ModelCard(text).data
    assert data.model_name == one_line
    assert (data.license, data.license_name, data.base_model) == ("other", one_line, None)
    assert one_line in data.tags
    body = text.split("\n---\n", 1)[1]
    assert body.count("\n---\n") == 0
    prose = re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", "", body)
    assert "<script>" not in prose
    assert not re.search(r"(?<!\\)\[z", prose)
    headings = [line for line in prose.splitlines() if line.startswith("#")]
    assert len([line for line in headings if line.startswith("# ")]) == 1
    assert "happy" not in "".join(headings)
    assert re.findall(r"(?m)^- (?:[#>-]|\d+\.)", prose) == []
    for rows in map(str.splitlines, re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE)):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows
    assert len(re.findall("(?m)^```", body)) % 2 == 0


def test_a_jump_in_the_curves_is_explained(tmp_path, metrics):
    assert "its figures jump" not in card_of(metrics)
    metrics["recipe"]["train"]["progressive_sizes"] = [24, 32]
    size = metrics["model"]["image_size"][0]
    assert f"had 24, then 32 pixels before the model's own {size}, which" in card_of(metrics)


def test_what_is_missing_is_said_before_anything_is_written(tmp_path, metrics):
    run = Run(tmp_path / "run")
    with pytest.raises(UserError, match=r"has no metrics\.json.*fer-hf train"):
        write_report(run)
    run.path.mkdir()
    metrics["evaluations"] = {"x": metrics["evaluations"]["fer2013-validation-int8"]}
    run.metrics_file.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"no evaluation of the PyTorch model.*fer-hf evaluate"):
        write_report(run)
    assert not run.model.exists()
