import torch

from fer_hf.training.launch import tf32


def test_tf32_lasts_no_longer_than_asked_for():
    """So an evaluation after a training computes what one in a process of its own does."""
    before = torch.get_float32_matmul_precision()
    with tf32():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
