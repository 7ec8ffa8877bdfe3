"""The whole card against a pattern, its metadata through the Hub's own parser, and what must never get into it."""

import json
import re

import pytest
from huggingface_hub import ModelCard
from report_figures import evaluation

from fer_hf.errors import UserError
from fer_hf.report.model_card import card_text, write_report
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Metrics, read_record

WARNING = "Very probably trained on FER2013's own test images: scores on FER2013 that start from it are inflated."


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
| Author                 | someone             |
| Date                   | 2026-01-31          |
| Made with              | fer_hf 0.1.0        |
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

| Data               | Images | Format       |           Accuracy |           Macro F1 | Balanced | Top-2 |  ECE |\
 Log loss |
| ------------------ | -----: | ------------ | -----------------: | -----------------: | -------: | ----: | ---: |\
 -------: |
| FER2013 test       |     40 | PyTorch      | 75.0% [65.0, 85.0] | 69.8% [57.8, 81.8] |    70.0% | 92.5% | 6.2% |\
    0.732 |
| FER2013 validation |     40 | PyTorch      | 77.5% [67.5, 87.5] | 73.0% [61.0, 85.0] |    73.3% | 92.5% | 6.2% |\
    0.732 |
| FER2013 validation |     40 | ONNX float32 | 77.5% [67.5, 87.5] | 73.0% [61.0, 85.0] |    73.3% | 92.5% | 6.2% |\
    0.732 |
| FER2013 validation |     40 | ONNX INT8    | 72.5% [62.5, 82.5] | 66.5% [54.5, 78.5] |    66.7% | 92.5% | 6.2% |\
    0.732 |

<...> The validation split chose the best epoch, so its figures lean to the good side.

### Exported files

- `onnx/model.onnx`: 19.8 MB; its logits differ from PyTorch's by at most 3.0e-06.
- `onnx/model_int8.onnx`: 5.1 MB, static quantisation with minmax calibration on 512 training images.
- ONNX float32 leaves accuracy as it is on FER2013 validation: 77.5% with PyTorch, 77.5% with ONNX float32.
- ONNX INT8 changes accuracy by -5.0 points on FER2013 validation: 77.5% with PyTorch, 72.5% with ONNX INT8.

### By class

The rest of this section is about the PyTorch model on the test split of FER2013.

| Class            | Precision | Recall |    F1 | Images |
| ---------------- | --------: | -----: | ----: | -----: |
| angry            |     60.0% |  60.0% | 60.0% |     10 |
| happy            |     94.7% |  90.0% | 92.3% |     20 |
| sad              |     54.5% |  60.0% | 57.1% |     10 |
| macro average    |     69.8% |  70.0% | 69.8% |     40 |
| weighted average |     76.0% |  75.0% | 75.4% |     40 |

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

- Accuracy by gender, age and skin tone, and by their intersections, was **not measured**. \
Known are gender (of 38 of the 40 images)<...>
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

|    Epoch | Training loss | Validation loss | Training accuracy | Accuracy | Macro F1 |
| -------: | ------------: | --------------: | ----------------: | -------: | -------: |
|        1 |         1.000 |           0.900 |             55.0% |    60.0% |    50.0% |
|        2 |         0.800 |           0.700 |             66.0% |    70.0% |    65.0% |
| 3 (best) |         0.500 |           0.800 |             78.0% |    75.0% |    70.0% |

Training accuracy is a running one<...>. Accuracy and macro F1 are of the validation split.

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

Install fer_hf 0.1.0 from a copy of its source, save the recipe below as `recipe.yaml`, \
put paths of your own into `data.source`, and run:

```bash
pip install '.[onnx]'
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
| fer_hf     | 0.1.0        |
| torch      | 2.15.0       |

</details>

Every figure of this card comes from the run's `metrics.json`, <...>

## Citation

```bibtex
@misc{tiny_fer2026,
  title = "{tiny\\_fer}",
  author = "{someone}",
  year = 2026,
  note = "Facial expression classifier, made with fer\\_hf 0.1.0",
  url = "https://huggingface.co/PATH/TO/MODEL",
}
```
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
    assert re.search(r"\| ck test +\| +15 \| PyTorch +\| 93.3%", text)
    del metrics["evaluations"]["fer2013-test"]
    metrics["evaluations"].pop("fer2013-validation")
    text = card_of(metrics)  # now the classes of the headline are those of the other dataset, not the model's
    assert "**Accuracy on the test split of ck: 93.3%" in text
    assert "which of 3 facial expressions" in text


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
        [cell.strip() for cell in line.split("|")[3:5]] for line in text.splitlines() if line.startswith("| FER2013")
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


STAGES = [
    {"trainable": "head", "num_train_epochs": 1.0, "learning_rate": 0.01, "lr_scheduler_type": "constant"},
    {"trainable": ["blocks.6"], "num_train_epochs": 2.0, "learning_rate": 0.001, "lr_scheduler_type": None},
]


def test_stages_take_the_place_of_the_settings_that_they_replace(metrics):
    metrics["recipe"]["train"] |= {"num_train_epochs": 10, "stages": STAGES}
    metrics["training"]["stages"] = [
        {"trainable": "head", "parameters": 1800, "epochs": 1.0, "steps": 400, "learning_rate": 0.01},
        {"trainable": ["blocks.6"], "parameters": 90000, "epochs": 2.0, "steps": 800, "learning_rate": 0.001},
    ]
    text = card_of(metrics)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert ["1", "head", "1,800", "1", "400", "0.01", "constant"] in rows
    assert ["2", "head + blocks.6", "90,000", "2", "800", "0.001", "as below"] in rows
    assert [row[:2] for row in rows if row[0] in ("1", "2", "3 (best)") and len(row) == 7 and "%" in row[-1]] == [
        *(["1", "1"], ["2", "2"], ["3 (best)", "2"]),
    ]
    assert "3 epochs in 2 stages, 1,200 optimiser steps" in text
    settings = text.split("### Hyper-parameters")[1].split("## Reproduction")[0]
    assert not re.search("num_train_epochs|learning_rate|train.stages", settings)


@pytest.mark.parametrize(
    ("section", "settings", "shown", "not_shown"),
    [
        ("train", {"optim": "sgd", "momentum": 0.9}, "train.momentum", "train.stages"),
        ("train", {"momentum": 0.9, "progressive_sizes": []}, "train.seed", "train.momentum|progressive"),
        ("train", {"max_steps": 7}, "train.max_steps", "train.num_train_epochs"),
        ("train", {"warmup_ratio": 0.1, "warmup_steps": 5}, "train.warmup_steps", "train.warmup_ratio"),
        ("train", {"sam_rho": 0.0, "sam_adaptive": False}, "train.sam_rho", "sam_adaptive"),
        ("loss", {"temperature": 4.0, "teacher": None}, "loss.label_smoothing", "loss.temperature"),
        ("loss", {"temperature": 4.0, "teacher": "big"}, "loss.temperature", "effective_number"),
        ("augment", {"enabled": False, "rotation": 10.0, "mixup": 0.2}, "augment.mixup", "augment.rotation|crop_scale"),
        ("model", {"weights": "vgg.pt", "pretrained": True}, "model.weights", "model.pretrained"),
    ],
)
def test_settings_without_effect_are_no_hyper_parameters(metrics, section, settings, shown, not_shown):
    metrics["recipe"][section] |= settings
    text = card_of(metrics).split("### Hyper-parameters")[1].split("## Reproduction")[0]
    assert f"`{shown}`" in text
    assert not re.search(not_shown, text)


def test_a_model_with_code_of_its_own_says_how_it_is_loaded(metrics):
    load = 'pipeline("image-classification", model="PATH/TO/MODEL"'
    assert f"{load})" in card_of(metrics)
    for changed in (metrics["model"] | {"attention": True}, metrics["model"]):
        metrics |= {
            "model": changed,
            "recipe": metrics["recipe"] | {"model": {"attention": "attention" not in changed}},
        }
        text = card_of(metrics)  # by its record, or by its recipe as files of earlier versions have it
        assert f"{load}, trust_remote_code=True)" in text
        assert "read it first" in text
        assert "| resnet10t with squeeze-excite and CBAM |" in text


def test_only_what_was_a_path_is_left_to_fill_in(metrics):
    metrics["recipe"] |= {"data": {"source": "toy"}, "loss": {"teacher": "someone/big"}}
    assert "as `recipe.yaml`, and run:" in card_of(metrics)
    metrics["recipe"]["model"]["weights"] = "vgg.pt"
    metrics["recipe"]["loss"]["teacher"] = "20260131-175900"
    metrics["model"]["parent"] = "mine/1"
    assert "put paths of your own into `model.name`, `model.weights`, `loss.teacher`, and run:" in card_of(metrics)


def test_singular_and_what_is_missing(metrics):
    metrics["training"] |= {"epochs": 1, "steps": 1, "effective_batch_size": 1, "seconds": 0.3, "best": None}
    metrics["training"] |= {"seed": None, "history": metrics["training"]["history"][:1]}
    metrics["data"]["splits"] = {"train": {"images": 1, "per_class": {"angry": 1, "happy": 0, "sad": 0}}}
    one = evaluation("train", "pytorch", [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    one |= {"reliability": [{"confidence": 0.9, "accuracy": 1, "count": 1}]}
    metrics["evaluations"] = {"x": one}
    metrics["export"]["int8"] |= {"megabytes": 0.04, "calibration_images": 1}
    text = card_of(metrics)
    for part in (
        "on 1 image.",
        "The model has no figures on a test split. These are the images that it has learnt from.",
        "1 epoch, 1 optimiser step of 1 image, in less than a second",
        "0.04 MB, static quantisation with minmax calibration on 1 training image.",
        "No images, so nothing is known of how well these are recognised: happy, sad.",
        "Accuracy is about that of always answering “angry”",
    ):
        assert part in text, part
    assert re.search(r"\| Seed +\| not recorded", text)
    assert not re.search(r"\b(None|nan|1 images|1 epochs|1 steps)\b", text)


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
