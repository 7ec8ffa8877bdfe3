"""The accuracy on the training images, as training goes on."""

import pytest
from tiny_training import make_trainer


def test_training_accuracy_is_of_the_images_as_the_network_saw_them(splits, tmp_path):
    trainer = make_trainer(tmp_path, splits)
    trainer.model.train()
    right = 0
    for start in (0, 8):
        inputs = trainer.prepare_batch(trainer.train_dataset.__getitems__(range(start, start + 8)))
        _, outputs = trainer.compute_loss(trainer.model, inputs, return_outputs=True)
        right += int((outputs["logits"].argmax(dim=1) == inputs["labels"]).sum())
    trainer.log({"loss": 1.0})
    entry = trainer.state.log_history[-1]
    assert (entry["accuracy"], entry["images"]) == (right / 16, 16)
    trainer.log({"loss": 1.0})
    assert "accuracy" not in trainer.state.log_history[-1]  # nothing was seen since
    trainer.log({"eval_loss": 1.0})


@pytest.mark.parametrize(
    ("sections", "seen"),
    [({}, 8), ({"train": {"sam_rho": 0.05}}, 8), ({"augment": {"mixup": 0.4}}, 0)],
)
def test_each_image_counts_once_and_only_with_a_label_of_its_own(splits, tmp_path, sections, seen):
    trainer = make_trainer(tmp_path, splits, **sections)
    trainer.training_step(trainer.model, trainer.train_dataset.__getitems__(range(8)))
    assert trainer.seen == seen
