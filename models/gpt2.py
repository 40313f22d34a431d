"""GPT-2: a transformer that predicts each next token from those before it.

Shape suffixes: B batch, T tokens in the context, D model width, H heads, V vocabulary.

References:
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from eflib.models.task import TaskModel

INITIAL_STD = 0.02


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each behind a LayerNorm and a bypass.

    Args:
        width: Width of the residual stream.
        num_heads: Attention heads.
        dropout: Share that is dropped in training, of attention and of what is added.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_btd: Tensor) -> Tensor:
        """Return the block's output, of the input's shape ``(B, T, D)``."""
        x_btd = x_btd + self.dropout(self._attend(self.norm1(x_btd)))
        # The tanh form of GELU is what the published weights were trained with.
        hidden = functional.gelu(self.expand(self.norm2(x_btd)), approximate="tanh")
        after: Tensor = x_btd + self.dropout(self.contract(hidden))
        return after

    def _attend(self, x_btd: Tensor) -> Tensor:
        batch, length, width = x_btd.shape
        heads = (batch, length, self.num_heads, width // self.num_heads)
        q_bhtd, k_bhtd, v_bhtd = (
            part.view(heads).transpose(1, 2) for part in self.qkv(x_btd).split(width, dim=-1)
        )
        mixed_bhtd = functional.scaled_dot_product_attention(
            q_bhtd,
            k_bhtd,
            v_bhtd,
            dropout_p=self.dropout.p if self.training else 0.0,
            is_causal=True,
        )
        mixed: Tensor = self.out(mixed_bhtd.transpose(1, 2).reshape(batch, length, width))
        return mixed


class GPT2(TaskModel):
    """GPT-2; as it stands the small one with 124,439,808 parameters.

    The output layer shares its weights with the token embedding.

    Args:
        vocabulary_size: Number of different tokens.
        context: Longest sequence, in tokens; examples are that long.
        width: Width of the residual stream; a multiple of ``num_heads``.
        num_layers: Number of blocks.
        num_heads: Attention heads in each block.
        dropout: Share that is dropped in training.

    Raises:
        ValueError: ``width`` cannot be divided among the heads.
    """

    def __init__(
        self,
        vocabulary_size: int = 50257,
        context: int = 1024,
        width: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is no multiple of the number of heads, {num_heads}")
        self.context = context
        self.tokens = nn.Embedding(vocabulary_size, width)
        self.places = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, num_heads, dropout) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width)
        self._initialise()

    def forward(self, tokens_bt: Tensor) -> Tensor:
        """Return the scores of every next token.

        Args:
            tokens_bt: Token numbers ``(B, T)``, with T at most ``context``.

        Returns:
            Unnormalised scores ``(B, T, V)``; those at place t follow tokens 0 to t.
        """
        places_t = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
        x_btd = self.dropout(self.tokens(tokens_bt) + self.places(places_t))
        return functional.linear(self.norm(self.blocks(x_btd)), self.tokens.weight)

    def example(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return random texts ``(B, T)``, and the same one token further on."""
        shape = (batch_size, self.context + 1)
        text = torch.randint(self.tokens.num_embeddings, shape, generator=generator)
        return text[:, :-1], text[:, 1:]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the next tokens; all texts are equally long."""
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def _initialise(self) -> None:
        """Draw weights as the paper does: what is added to the stream is scaled to its depth."""
        scaled = INITIAL_STD / math.sqrt(2 * len(self.blocks))
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                is_added = name.endswith((".out", ".contract"))
                nn.init.normal_(module.weight, std=scaled if is_added else INITIAL_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
