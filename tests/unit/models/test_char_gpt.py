import pytest
import torch
from torch.nn.functional import cross_entropy

from eflib.models import CharGPT


def small():
    torch.manual_seed(0)
    return CharGPT(vocabulary_size=7, context=8, width=16, num_layers=2, num_heads=2)


def test_a_score_does_not_depend_on_later_characters():
    model = small().eval()
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    changed = torch.tensor([[1, 2, 3, 0, 0, 0]])

    assert torch.allclose(model(tokens)[:, :3], model(changed)[:, :3], atol=1e-6)
    assert not torch.allclose(model(tokens)[:, 3:], model(changed)[:, 3:], atol=1e-3)


def test_it_learns_a_repeated_sequence():
    model = small()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0, 1]])
    for _ in range(60):
        loss = cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert loss.item() < 0.1


def test_the_first_loss_is_that_of_a_uniform_guess():
    tokens = torch.randint(7, (4, 8), generator=torch.Generator().manual_seed(0))

    loss = cross_entropy(small()(tokens).flatten(0, 1), tokens.flatten())

    assert loss.item() == pytest.approx(torch.tensor(7.0).log().item(), rel=0.1)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="width 10 is no multiple of the number of heads, 4"):
        CharGPT(width=10, num_heads=4)
