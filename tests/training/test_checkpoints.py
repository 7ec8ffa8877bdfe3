import json

import pytest

from fer_hf.training.checkpoints import MANIFEST, checkpoints, defect, newest_sound, publish, seal


@pytest.fixture
def folder(tmp_path):
    """Checkpoints at steps 9, 10 and 100, in one process."""
    for step in (9, 10, 100):
        staged = tmp_path / ".staging" / f"checkpoint-{step}"
        staged.mkdir(parents=True)
        for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
            (staged / name).write_text(f"{name} of step {step}")
        publish(staged, tmp_path, keep=None)
    return tmp_path


def test_order_is_by_step_not_by_name(folder):
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert newest_sound(folder) == (folder / "checkpoint-100", [])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda c: (c / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda c: truncate(c / "model.safetensors"), "bytes instead of"),
        (lambda c: flip(c / "rng_state.pth"), "rng_state.pth has changed"),
        (lambda c: (c / MANIFEST).unlink(), "no manifest"),
        (lambda c: (c / MANIFEST).write_text("{"), "manifest is damaged"),
        (lambda c: (c / MANIFEST).write_text("[1]"), "manifest is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_said(folder, damage, reason):
    damage(folder / "checkpoint-100")
    found, passed_over = newest_sound(folder)
    assert found == folder / "checkpoint-10"
    assert len(passed_over) == 1
    assert passed_over[0].startswith("checkpoint-100: ")
    assert reason in passed_over[0]


def test_another_number_of_processes_is_no_resume(folder):
    assert "written by 1 processes, and 2" in str(defect(folder / "checkpoint-9", processes=2))


def test_nothing_to_resume_from(tmp_path):
    assert newest_sound(tmp_path) == (None, [])


def test_only_the_newest_are_kept_and_a_same_step_is_replaced(folder):
    staged = folder / ".staging" / "checkpoint-100"
    staged.mkdir()
    (staged / "rng_state.pth").write_text("anew")
    publish(staged, folder, keep=2)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-10", "checkpoint-100"]
    assert json.loads((folder / "checkpoint-100" / MANIFEST).read_text()).keys() == {"rng_state.pth"}
    assert not staged.exists()


def test_what_a_resume_passed_over_does_not_count_as_newer(folder):
    """After a resume from step 9, the new checkpoint-20 must not be deleted in favour of the damaged ones above it."""
    staged = folder / ".staging" / "checkpoint-20"
    staged.mkdir()
    (staged / "rng_state.pth").write_text("anew")
    publish(staged, folder, keep=1)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-20", "checkpoint-100"]


def test_seal_covers_subfolders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "rng_state.pth").write_text("x")
    (tmp_path / "a" / "shard.pt").write_text("x")
    seal(tmp_path)
    assert defect(tmp_path) is None
    (tmp_path / "a" / "shard.pt").write_text("y")
    assert "a/shard.pt has changed" in str(defect(tmp_path))
