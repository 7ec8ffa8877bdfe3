"""Runs are grouped, aligned by image and label name, and ranked; what cannot be compared is refused."""

import json
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from run_maker import LABELS, make_run, noisy
from sklearn.metrics import f1_score

from fer_hf.errors import UserError
from fer_hf.evaluation.compare import Choice, changes, compare, configurations, evaluations, find_runs, predictions
from fer_hf.runs.folder import Run

TRUE = [LABELS[i % 3] for i in range(150)]


def names_of(runs):
    return {name: [run.path.name for run in seeds] for name, seeds in configurations(runs)[0].items()}


def test_runs_are_found_below_folders_once_and_unfinished_ones_and_folds_are_left_out(tmp_path):
    first = make_run(tmp_path / "study/a-seed=0", TRUE, TRUE)
    make_run(tmp_path / "study/b-seed=0", TRUE, TRUE).update(finished=False)
    make_run(first.path / "folds/1-of-5", TRUE, TRUE)
    found, left_out = find_runs([tmp_path / "study", first.path])
    assert [run.path for run in found] == [first.path]
    assert left_out == [f"{tmp_path / 'study/b-seed=0'}: not finished"]
    with pytest.raises(UserError, match=r"no finished run in .*b-seed=0 \(unfinished: 1\)"):
        find_runs([tmp_path / "study/b-seed=0"])
    with pytest.raises(UserError, match=r"no finished run in .*nowhere \(unfinished: 0\)"):
        find_runs([first.path, tmp_path / "nowhere"])


def test_runs_that_differ_in_their_seed_only_are_one_configuration_named_by_its_folders(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / f"s/resnet18-seed={seed}", TRUE, TRUE, seed=seed, hub={"tags": [str(seed)]})
        make_run(tmp_path / f"s/resnet18-mixup=0.2-seed={seed}", TRUE, TRUE, seed=seed, augment={"mixup": 0.2})
        make_run(tmp_path / f"s/seed={seed}-split_seed=3", TRUE, TRUE, seed=seed, data={"split_seed": 3})
    grouped = names_of(find_runs([tmp_path])[0])
    assert grouped.keys() == {"resnet18", "resnet18-mixup=0.2", "split_seed=3"}
    assert grouped["resnet18"] == ["resnet18-seed=0", "resnet18-seed=1"]


def test_runs_of_recipes_are_named_by_recipe_and_a_later_repetition_counts(tmp_path):
    for time in ("20260101-000000", "20260102-000000"):
        make_run(tmp_path / "plain" / time, TRUE, TRUE)
    make_run(tmp_path / "focal/20260103-000000", TRUE, TRUE, loss={"focal_gamma": 2.0})
    configs, repeated = configurations(find_runs([tmp_path])[0])
    assert {name: seeds[0].path.name for name, seeds in configs.items()} == {
        "focal": "20260103-000000",
        "plain": "20260102-000000",
    }
    (line,) = repeated
    assert line.endswith("plain/20260101-000000: repeated by " + str(tmp_path / "plain/20260102-000000"))


def test_folders_that_are_named_alike_are_told_apart_by_their_recipes(tmp_path):
    make_run(tmp_path / "x/20260101-000000", TRUE, TRUE)
    make_run(tmp_path / "x/20260102-000000", TRUE, TRUE, augment={"mixup": 0.2}, loss={"label_smoothing": 0.1})
    assert names_of(find_runs([tmp_path])[0]).keys() == {
        "augment.mixup=0.0, loss.label_smoothing=0.0",
        "augment.mixup=0.2, loss.label_smoothing=0.1",
    }


def test_rows_hold_means_over_seeds_and_are_ranked(tmp_path):
    right = {"good": (140, 130), "poor": (60, 75)}
    for name, counts in right.items():
        for seed, count in enumerate(counts):
            predicted = [own if i < count else LABELS[(i + 1) % 3] for i, own in enumerate(TRUE)]
            mixing = {"augment": {"mixup": 0.2}} if name == "good" else {}
            make_run(tmp_path / f"{name}-seed={seed}", predicted, TRUE, seed=seed, seconds=60 + 60 * seed, **mixing)
    compared = compare(configurations(find_runs([tmp_path])[0])[0], "accuracy")
    first = compared.rows[0]
    assert [row.name for row in compared.rows] == ["good", "poor"]
    assert first.mean == pytest.approx(135 / 150)
    assert first.std == pytest.approx(np.std([140 / 150, 130 / 150], ddof=1))
    assert first.low < 130 / 150 < 140 / 150 < first.high  # two seeds so far apart say little
    assert (first.seeds, first.parameters, first.megabytes, first.train_minutes) == (2, 250, 0.001, 1.5)
    assert (first.dataset, first.split, first.images, first.latency_ms) == ("toy", "test", 150, None)
    assert compared.verdict.startswith("good is better than poor: 45.0 points of accuracy [")
    assert "150 images, and 2 and 2 seeds" in compared.verdict


def test_one_seed_each_has_the_interval_of_its_card_and_says_what_the_test_is_about(tmp_path):
    one = make_run(tmp_path / "one", noisy(TRUE, 0.7, 1), TRUE)
    make_run(tmp_path / "two", noisy(TRUE, 0.69, 2), TRUE, augment={"mixup": 0.2})
    compared = compare(configurations(find_runs([tmp_path])[0])[0], "macro_f1")
    row = next(row for row in compared.rows if row.name == "one")
    evaluation = one.metrics.evaluations["toy-test"]
    assert (row.low, row.high) == evaluation.macro_f1_ci
    assert (row.mean, row.std) == (evaluation.macro_f1, None)
    assert "is not significantly better than" in compared.verdict
    assert "McNemar" in compared.verdict
    assert "not about other seeds" in compared.verdict
    assert all(a.mean >= b.mean for a, b in pairwise(compared.rows))
    alone = compare({"one": [one]}, "balanced_accuracy")  # whose interval the card lacks
    assert alone.rows[0].low < alone.rows[0].mean < alone.rows[0].high
    assert alone.verdict == "There is nothing to compare it with."


def test_every_pair_is_tested_and_corrected_for_their_number(tmp_path):
    for name, accuracy, mixup in (("a", 0.8, 0.0), ("b", 0.7, 0.1), ("c", 0.69, 0.2)):
        make_run(tmp_path / name, noisy(TRUE, accuracy, int(10 * mixup)), TRUE, augment={"mixup": mixup})
    configs = configurations(find_runs([tmp_path])[0])[0]
    compared = compare(configs)
    names = [row.name for row in compared.rows]
    assert [(pair.first, pair.second) for pair in compared.pairs] == [*combinations(names, 2)]
    alone = {
        pair: compare({name: configs[name] for name in pair}, "accuracy").pairs[0] for pair in combinations(names, 2)
    }
    exact = [alone[pair.first, pair.second].mcnemar for pair in compared.pairs]
    assert [pair.mcnemar for pair in compared.pairs] == multipletests(exact)
    for pair in compared.pairs:
        one = alone[pair.first, pair.second]
        assert one.points == pytest.approx(pair.points)
        assert (one.low, one.high) == pytest.approx((pair.low, pair.high), abs=1.5)
        assert one.p <= pair.p + 0.01  # up to chance
    assert "after Holm's correction for 3 pairs (paired bootstrap" in compared.verdict
    assert [list(row.scores) for row in compared.rows] == [[row.mean] for row in compared.rows]


def multipletests(p_values: list[float]) -> list[float]:
    """Holm's correction as it is written down: each p times the number of those that are no smaller, never falling."""
    corrected = {p: p * sum(other >= p for other in p_values) for p in p_values}
    return [min(1.0, max(corrected[q] for q in p_values if q <= p)) for p in p_values]


def test_images_are_matched_by_id_and_classes_by_name(tmp_path):
    predicted = noisy(TRUE, 0.6, 1)
    first = make_run(tmp_path / "a", predicted, TRUE)
    ids = [f"{number:04}" for number in range(150)]
    backwards = make_run(
        tmp_path / "b", predicted[::-1], TRUE[::-1], ids=ids[::-1], labels=("sad", "happy", "neutral"), seed=1
    )
    runs = [first, backwards]
    references, both = predictions(runs, evaluations(runs))
    assert (both[0] == both[1]).all()
    assert [LABELS[i] for i in references] == TRUE  # these labels are sorted already
    assert [LABELS[i] for i in both[0]] == predicted


def test_other_formats_and_test_time_augmentation_do_not_count(tmp_path):
    run = make_run(tmp_path / "a", TRUE, TRUE)
    plain = run.metrics.evaluations["toy-test"]
    run.update(evaluations={"x": replace(plain, tta="flip"), "y": replace(plain, format="int8")})
    assert evaluations([run]) == [plain]
    assert evaluations([run], Choice(format="int8")) == [replace(plain, format="int8")]
    with pytest.raises(UserError, match=r"model_int8\.onnx is missing: `fer-hf export \S+ --int8` makes it again"):
        compare({"a": [run]}, choice=Choice(format="int8"))
    run.onnx.mkdir()
    (run.onnx / "model_int8.onnx").write_bytes(b"0" * 400)
    assert compare({"a": [run]}, choice=Choice(format="int8")).rows[0].megabytes == 0.0004
    metrics = json.loads(run.metrics_file.read_text())
    del metrics["evaluations"]["toy-test"]
    run.metrics_file.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"no figures on a test split: fer-hf evaluate \S+ --split test\. It has: x, y"):
        evaluations([run])


def refused(runs: list[Run]) -> str:
    with pytest.raises(UserError) as caught:
        predictions(runs, evaluations(runs))
    return str(caught.value)


def test_what_cannot_be_compared_is_refused_with_what_differs(tmp_path):
    first = make_run(tmp_path / "first", TRUE, TRUE)
    other = make_run(tmp_path / "other", TRUE, TRUE, dataset="FER2013")
    assert f"different datasets: toy ({first.path}); FER2013 ({other.path})" in refused([first, other])
    ids = [f"{number:04}" for number in range(149)] + ["9999"]
    images = make_run(tmp_path / "images", TRUE, TRUE, ids=ids)
    assert "differ in the images (0149, 9999): only" in refused([first, images])
    labels = make_run(tmp_path / "labels", TRUE, TRUE, labels=(*LABELS, "fear"))
    assert "differ in the classes (fear)" in refused([first, labels])
    relabelled = make_run(tmp_path / "relabelled", TRUE, [*TRUE[1:], "happy"])
    assert "differ in the labels of the images" in refused([first, relabelled])
    (images.predictions / "toy-test.parquet").unlink()
    again = f"toy-test.parquet is missing, which this makes again: fer-hf evaluate {images.path} --split test"
    assert refused([first, images]).endswith(again)


def test_the_dataset_that_all_share_is_compared_the_runs_own_first(tmp_path):
    one, two = make_run(tmp_path / "a", TRUE, TRUE, dataset="A"), make_run(tmp_path / "b", TRUE, TRUE, dataset="B")
    one.update(evaluations={"B-test": two.metrics.evaluations["B-test"]})
    assert [row.dataset for row in evaluations([one, two])] == ["B", "B"]
    two.update(evaluations={"A-test": one.metrics.evaluations["A-test"]})
    assert [row.dataset for row in evaluations([one, two])] == ["A", "A"]
    assert [row.dataset for row in evaluations([one, two], Choice(dataset="B"))] == ["B", "B"]
    copy = replace(one.metrics.evaluations["A-test"], own=False, content="other", images=7)
    one.update(evaluations={"A-test-other": copy})
    assert [row.images for row in evaluations([one, two])] == [150, 150]


def test_data_of_one_name_are_told_apart_by_their_content(tmp_path):
    """Trained on women/faces and on men/faces, each evaluated on both."""
    runs, (women, men) = [], ("a1" * 6, "b2" * 6)
    for name, own, other in (("w", women, men), ("m", men, women)):
        run = make_run(tmp_path / name, TRUE, TRUE, dataset="faces", seed=len(runs))
        row = run.metrics.evaluations["faces-test"]
        run.update(
            evaluations={
                f"faces-test-{other[:8]}": replace(row, content=other, own=False),
                "faces-test": replace(row, content=own, own=True),
            }
        )
        runs.append(run)
    assert {row.content for row in evaluations(runs)} == {women}  # the first run's own
    assert {row.content for row in evaluations(runs, Choice(dataset="b2b2b2b2"))} == {men}
    with pytest.raises(UserError) as caught:
        evaluations(runs, Choice("validation", "int8", "RAF-DB"))
    assert str(caught.value) == (
        f"{runs[0].path} has no figures on a validation split of RAF-DB with its int8 file: fer-hf evaluate "
        f"{runs[0].path} --data SOURCE --split validation --format int8 (SOURCE: that of RAF-DB). "
        "It has: faces-test, faces-test-b2b2b2b2."
    )


def test_what_training_took_is_the_most_of_the_seeds_and_the_images_are_those_of_training(tmp_path):
    for seed, memory in ((0, 900.0), (1, 1200.0)):
        run = make_run(tmp_path / f"a-seed={seed}", TRUE, TRUE, seed=seed)
        run.update(training={"peak_memory_mb": memory}, data={"splits": {"train": {"images": 700}}})
    (row,) = compare(configurations(find_runs([tmp_path])[0])[0]).rows
    assert (row.train_images, row.memory_mb, row.images) == (700, 1200.0, 150)
    run.update(data={"splits": {}}, training={"peak_memory_mb": None})
    row = compare({"a": [run]}).rows[0]
    assert (row.train_images, row.memory_mb) == (None, None)


def test_each_class_is_held_against_the_baseline():
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1, 3], [300, 300, 40])  # no image of class 2
    base = np.stack([np.where(rng.random(640) < 0.6, true, rng.integers(0, 4, 640)) for _ in range(2)])
    better = np.where((true == 1) & (rng.random((2, 640)) < 0.8), true, base)  # in class 1 alone
    found = changes(true, {"base": base, "better": better, "same": base}, "base", "accuracy", list("abcd"))
    assert [change.figure for change in found] == ["accuracy", "a", "b", "d"] * 2
    assert [change.configuration for change in found] == ["better"] * 4 + ["same"] * 4
    for change, at in zip(found[1:4], (0, 1, 3), strict=True):
        before, after = (
            np.mean([f1_score(true, seed, average=None, labels=range(4))[at] for seed in seeds])
            for seeds in (base, better)
        )
        assert change.baseline == pytest.approx(before)
        assert change.points == pytest.approx(100 * (after - before))
        assert change.low <= change.points <= change.high
    assert found[0].points == pytest.approx(100 * ((better == true).mean() - (base == true).mean()))
    assert [change.more_than_chance for change in found[:4]][0::2] == [True, True]
    assert [(change.points, change.more_than_chance) for change in found[4:]] == [(0, False)] * 4
