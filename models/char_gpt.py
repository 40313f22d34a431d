"""A small decoder-only transformer over characters, with the blocks of GPT-2.

Shape suffixes: B batch, T characters in the context, D model width, H heads, V vocabulary.

References:
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from eflib.models.task import TaskModel

INITIAL_STD = 0.02  # GPT-2's standard deviation of initial weights


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each behind a LayerNorm and a bypass."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x_btd: Tensor) -> Tensor:
        """Return the block's output, of the input's shape ``(B, T, D)``."""
        batch, length, width = x_btd.shape
        heads = (batch, length, self.num_heads, width // self.num_heads)
        q, k, v = (
            part.view(heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x_btd)).split(width, dim=-1)
        )
        mixed_bhtd = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_btd = x_btd + self.out(mixed_bhtd.transpose(1, 2).reshape(batch, length, width))
        hidden = functional.gelu(self.expand(self.norm2(x_btd)))
        after: Tensor = x_btd + self.contract(hidden)
        return after


class CharGPT(TaskModel):
    """Predict each next character of a text; about 240,000 parameters as it stands.

    The output layer shares its weights with the character embedding, as in GPT-2.

    Args:
        vocabulary_size: Number of different characters.
        context: Longest sequence, in characters.
        width: Width of the residual stream; a multiple of ``num_heads``.
        num_layers: Number of blocks.
        num_heads: Attention heads in each block.

    Raises:
        ValueError: ``width`` cannot be divided among the heads.
    """

    def __init__(
        self,
        vocabulary_size: int = 100,
        context: int = 64,
        width: int = 96,
        num_layers: int = 2,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is no multiple of the number of heads, {num_heads}")
        self.context = context
        self.characters = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width)
        self.apply(_initialise)

    def forward(self, tokens_bt: Tensor) -> Tensor:
        """Return the scores of every next character.

        Args:
            tokens_bt: Character numbers of shape ``(B, T)``, with T at most ``context``.

        Returns:
            Unnormalised scores of shape ``(B, T, V)``; those at place t follow characters 0 to t.
        """
        places_t = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
        x_btd = self.characters(tokens_bt) + self.positions(places_t)
        return functional.linear(self.norm(self.blocks(x_btd)), self.characters.weight)

    def example(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return random texts ``(B, T)``, and the same one character further on."""
        shape = (batch_size, self.context + 1)
        text = torch.randint(self.characters.num_embeddings, shape, generator=generator)
        return text[:, :-1], text[:, 1:]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the next characters."""
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def _initialise(module: nn.Module) -> None:
    """Draw weights as GPT-2 does; biases start at zero."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
