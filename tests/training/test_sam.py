"""SAM against its formula, and FerTrainer's two passes against a plain loop written from the paper."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fer_hf.training.sam import ascent, moved, running_statistics_kept


def test_ascent_is_the_formula_of_the_papers():
    w, v = nn.Parameter(torch.tensor([3.0, -4.0])), nn.Parameter(torch.tensor([[2.0]]))
    w.grad, v.grad = torch.tensor([1.0, 2.0]), torch.tensor([[2.0]])
    plain = ascent([w, v], rho=0.3)
    assert torch.allclose(plain[0], torch.tensor([0.1, 0.2]))  # |g| = 3
    assert torch.allclose(plain[1], torch.tensor([[0.2]]))
    adaptive = ascent([w, v], rho=1.0, adaptive=True)
    norm = (3.0**2 + 8.0**2 + 4.0**2) ** 0.5  # of |w| g
    assert torch.allclose(adaptive[0], torch.tensor([9.0, 32.0]) / norm)
    assert torch.allclose(adaptive[1], torch.tensor([[8.0]]) / norm)


def test_it_goes_up_and_comes_back_exactly():
    torch.manual_seed(0)
    model, x, y = nn.Linear(10, 3), torch.randn(50, 10), torch.randint(0, 3, (50,))
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    parameters, before = list(model.parameters()), copy.deepcopy(model.state_dict())
    with moved(parameters, ascent(parameters, 0.05)):
        above = F.cross_entropy(model(x), y)
        distance = torch.cat([(p - before[n]).flatten() for n, p in model.named_parameters()]).norm()
        assert distance.item() == pytest.approx(0.05, rel=1e-4)
    assert above > loss
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_running_statistics_are_kept_but_not_used():
    torch.manual_seed(0)
    norm, x = nn.BatchNorm1d(4), torch.randn(16, 4) * 3 + 1
    expected, before = copy.deepcopy(norm)(x), copy.deepcopy(norm.state_dict())
    with running_statistics_kept(norm):
        assert torch.equal(norm(x), expected)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    norm(x)
    assert norm.num_batches_tracked == 1
