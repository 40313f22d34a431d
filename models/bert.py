"""BERT-base: a transformer that reads a text in both directions at once.

``Bert`` is trained to fill in masked words; its scores reuse the word embedding, so the model has
exactly the parameters that are published. ``BertClassifier`` is what it is fine-tuned to.

Shape suffixes: B batch, T tokens, D model width, H heads, V vocabulary.

References:
    Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding", NAACL 2019, arXiv:1810.04805.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from eflib.models.task import IGNORED, TaskModel

INITIAL_STD = 0.02
MASKED_SHARE = 0.15  # of the tokens are to be filled in
NORM_EPSILON = 1e-12


class Layer(nn.Module):
    """Self-attention and a two-layer perceptron, each added to its input and then normalised.

    Args:
        width: Width of the residual stream.
        num_heads: Attention heads.
        hidden: Units inside the perceptron.
        dropout: Share that is dropped in training, of attention and of what is added.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_btd: Tensor, seen_b11t: Tensor | None) -> Tensor:
        """Return the layer's output ``(B, T, D)``.

        Args:
            x_btd: The residual stream.
            seen_b11t: True where a token may be looked at; None for everywhere.
        """
        x_btd = self.norm1(x_btd + self.dropout(self._attend(x_btd, seen_b11t)))
        hidden = self.contract(functional.gelu(self.expand(x_btd)))
        after: Tensor = self.norm2(x_btd + self.dropout(hidden))
        return after

    def _attend(self, x_btd: Tensor, seen_b11t: Tensor | None) -> Tensor:
        batch, length, width = x_btd.shape
        heads = (batch, length, self.num_heads, width // self.num_heads)
        q_bhtd, k_bhtd, v_bhtd = (
            part(x_btd).view(heads).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed_bhtd = functional.scaled_dot_product_attention(
            q_bhtd,
            k_bhtd,
            v_bhtd,
            attn_mask=seen_b11t,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        mixed: Tensor = self.out(mixed_bhtd.transpose(1, 2).reshape(batch, length, width))
        return mixed


class Bert(TaskModel):
    """The encoder with its pooler; as it stands BERT-base, uncased, with 109,482,240 parameters.

    The pooler belongs to the published model. Filling in words does not use it.

    Args:
        vocabulary_size: Number of different tokens.
        context: Longest sequence, in tokens.
        width: Width of the residual stream; a multiple of ``num_heads``.
        num_layers: Number of layers.
        num_heads: Attention heads in each layer.
        hidden: Units inside each layer's perceptron; None for four times the width.
        num_segments: Kinds of segments: first and second sentence.
        dropout: Share that is dropped in training.
        example_length: Tokens in an example's texts; 128, as in nine tenths of the paper's steps.

    Raises:
        ValueError: ``width`` cannot be divided among the heads, or examples are too long.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the sizes of the model
        self,
        vocabulary_size: int = 30522,
        context: int = 512,
        width: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        hidden: int | None = None,
        num_segments: int = 2,
        dropout: float = 0.1,
        example_length: int = 128,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is no multiple of the number of heads, {num_heads}")
        if example_length > context:
            raise ValueError(f"example_length {example_length} is beyond the context, {context}")
        self.width = width
        self.example_length = example_length
        self.words = nn.Embedding(vocabulary_size, width)
        self.places = nn.Embedding(context, width)
        self.segments = nn.Embedding(num_segments, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(width, num_heads, hidden or 4 * width, dropout) for _ in range(num_layers)
        )
        self.pooler = nn.Linear(width, width)
        self.apply(_initialise)

    def encode(
        self,
        tokens_bt: Tensor,
        segments_bt: Tensor | None = None,
        seen_bt: Tensor | None = None,
    ) -> Tensor:
        """Return what the model makes of every token, of shape ``(B, T, D)``.

        Args:
            tokens_bt: Token numbers ``(B, T)``, with T at most ``context``.
            segments_bt: Which sentence each token belongs to; None: all to the first.
            seen_bt: True for tokens, False for padding; None: there is no padding.
        """
        places_t = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
        if segments_bt is None:
            segments_bt = torch.zeros_like(tokens_bt)
        x_btd = self.words(tokens_bt) + self.places(places_t) + self.segments(segments_bt)
        x_btd = self.dropout(self.norm(x_btd))
        seen_b11t = None if seen_bt is None else seen_bt.bool()[:, None, None, :]
        for layer in self.layers:
            x_btd = layer(x_btd, seen_b11t)
        encoded: Tensor = x_btd
        return encoded

    def pool(self, x_btd: Tensor) -> Tensor:
        """Return one vector for each text ``(B, D)``, from its first token."""
        return torch.tanh(self.pooler(x_btd[:, 0]))

    def forward(
        self,
        tokens_bt: Tensor,
        segments_bt: Tensor | None = None,
        seen_bt: Tensor | None = None,
    ) -> Tensor:
        """Return the scores of every word at every place ``(B, T, V)``; arguments as ``encode``."""
        x_btd = self.encode(tokens_bt, segments_bt, seen_bt)
        return functional.linear(x_btd, self.words.weight)

    def example(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return texts ``(B, T)`` with masked words, and targets: the words under the masks.

        Token 0 stands for the mask here. One word in seven is masked, and at least one in a text.
        """
        shape = (batch_size, self.example_length)
        words_bt = torch.randint(1, self.words.num_embeddings, shape, generator=generator)
        masked_bt = torch.rand(shape, generator=generator) < MASKED_SHARE
        masked_bt[:, 0] = True
        return words_bt.masked_fill(masked_bt, 0), words_bt.masked_fill(~masked_bt, IGNORED)

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of masked words: (sum, number of masked words)."""
        total = functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return total, (targets != IGNORED).sum()


class BertClassifier(TaskModel):
    """BERT with a linear layer on its pooled output: classes of texts, as in fine-tuning on CoLA.

    Args:
        num_classes: Number of outputs.
        **size: As for ``Bert``.
    """

    def __init__(self, num_classes: int = 2, **size: int) -> None:
        super().__init__()
        self.bert = Bert(**size)
        self.classifier = nn.Linear(self.bert.width, num_classes)
        _initialise(self.classifier)

    def forward(
        self,
        tokens_bt: Tensor,
        segments_bt: Tensor | None = None,
        seen_bt: Tensor | None = None,
    ) -> Tensor:
        """Return class scores ``(B, num_classes)``; arguments as for ``Bert.encode``."""
        pooled_bd = self.bert.pool(self.bert.encode(tokens_bt, segments_bt, seen_bt))
        scores: Tensor = self.classifier(self.bert.dropout(pooled_bd))
        return scores

    def example(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return random texts ``(B, T)`` and their classes."""
        shape = (batch_size, self.bert.example_length)
        texts = torch.randint(self.bert.words.num_embeddings, shape, generator=generator)
        classes = self.classifier.out_features
        return texts, torch.randint(classes, (batch_size,), generator=generator)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(outputs, targets)


def _initialise(module: nn.Module) -> None:
    """Draw weights as the paper's code does; biases start at zero."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=INITIAL_STD, a=-2 * INITIAL_STD, b=2 * INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
