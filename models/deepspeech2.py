"""DeepSpeech2: from a spectrogram to letters, by convolutions and recurrent layers.

Utterances differ in length. Padding is cut off before the recurrent layers, so that neither they
nor their BatchNorm see it: an utterance's letters do not depend on how far it was padded.

Shape suffixes: B batch, F frequencies, T frames, C channels, D width of a recurrent layer,
N frames of all utterances together.

References:
    Amodei et al., "Deep Speech 2: End-to-End Speech Recognition in English and Mandarin",
    ICML 2016, arXiv:1512.02595.
    Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from eflib.models.task import TaskModel

NUM_LETTERS = 29  # blank, a to z, space, apostrophe
BLANK = 0
FRAMES_PER_LETTER = 8  # in examples: slow speech, so that letters fit in after the stride


class Convolutions(nn.Module):
    """The paper's two 2-D convolutions: they leave half the frames and a quarter of the bins.

    Args:
        channels: Channels of both.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, (41, 11), stride=(2, 2), padding=(20, 5), bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(
            channels, channels, (21, 11), stride=(2, 1), padding=(10, 5), bias=False
        )
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x_bft: Tensor, lengths_b: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``(B, T / 2, C * F / 4)`` and how many frames of each are sound."""
        lengths_b = (lengths_b + 1) // 2
        x_bcft = functional.hardtanh(self.norm1(self.conv1(x_bft[:, None])), 0.0, 20.0)
        x_bcft = _without_padding(x_bcft, lengths_b)
        x_bcft = functional.hardtanh(self.norm2(self.conv2(x_bcft)), 0.0, 20.0)
        return x_bcft.flatten(1, 2).transpose(1, 2), lengths_b


class Recurrent(nn.Module):
    """A bidirectional GRU behind a BatchNorm over all frames; both directions are added.

    Args:
        in_width: Features of a frame that comes in.
        width: Units of each direction.
    """

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_width)
        self.gru = nn.GRU(in_width, width, bidirectional=True)

    def forward(self, x: PackedSequence) -> PackedSequence:
        """Return the layer's frames, of shape ``(N, D)``."""
        y, _ = self.gru(x._replace(data=self.norm(x.data)))
        forwards, backwards = y.data.chunk(2, dim=-1)
        return PackedSequence(
            forwards + backwards, y.batch_sizes, y.sorted_indices, y.unsorted_indices
        )


class DeepSpeech2(TaskModel):
    """Speech to letters; as it stands two convolutions and five GRU layers of 800 units.

    Args:
        num_letters: Number of outputs for each frame, the blank (0) among them.
        num_frequencies: Bins of a spectrogram; 161 are those of 20 ms at 16 kHz.
        channels: Channels of the convolutions.
        width: Units of each direction of a recurrent layer.
        num_layers: Number of recurrent layers.
        example_frames: Frames of the longest of an example's utterances; 1,000 are ten seconds.
    """

    def __init__(
        self,
        num_letters: int = NUM_LETTERS,
        num_frequencies: int = 161,
        channels: int = 32,
        width: int = 800,
        num_layers: int = 5,
        example_frames: int = 1000,
    ) -> None:
        super().__init__()
        self.num_letters = num_letters
        self.num_frequencies = num_frequencies
        self.example_frames = example_frames
        self.convolutions = Convolutions(channels)
        in_width = channels * ((((num_frequencies + 1) // 2) + 1) // 2)
        self.layers = nn.ModuleList(
            Recurrent(in_width if layer == 0 else width, width) for layer in range(num_layers)
        )
        self.norm = nn.BatchNorm1d(width)
        self.letters = nn.Linear(width, num_letters, bias=False)

    def forward(self, sounds_bft: Tensor, lengths_b: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log probabilities of letters in every second frame.

        Args:
            sounds_bft: Spectrograms ``(B, F, T)``, padded at the end.
            lengths_b: Frames of each that are sound, at least 1; ``(B,)``.

        Returns:
            Log probabilities ``(B, T / 2, num_letters)``, and the frames of each that count.
        """
        features, lengths_b = self.convolutions(_without_padding(sounds_bft, lengths_b), lengths_b)
        # torch packs by lengths on the CPU: on a GPU each step waits here once.
        packed = pack_padded_sequence(
            features, lengths_b.cpu(), batch_first=True, enforce_sorted=False
        )
        for layer in self.layers:
            packed = layer(packed)
        scores = functional.log_softmax(self.letters(self.norm(packed.data)), dim=-1)
        padded, _ = pad_packed_sequence(packed._replace(data=scores), batch_first=True)
        return padded, lengths_b

    def example(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return utterances of different lengths, and their letters with how many they are."""
        most = self.example_frames
        sounds = torch.randn(batch_size, self.num_frequencies, most, generator=generator)
        lengths = torch.randint((most + 1) // 2, most + 1, (batch_size,), generator=generator)
        shape = (batch_size, max(most // FRAMES_PER_LETTER, 1))
        letters = torch.randint(1, self.num_letters, shape, generator=generator)
        counts = (lengths // FRAMES_PER_LETTER).clamp(min=1)
        return (sounds, lengths), (letters, counts)

    def loss(self, outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean over utterances of their CTC loss.

        An utterance with too few frames for its letters, which has no loss, counts as 0.
        """
        (scores_btl, lengths_b), (letters_bl, counts_b) = outputs, targets
        losses_b = functional.ctc_loss(
            scores_btl.transpose(0, 1),
            letters_bl,
            lengths_b,
            counts_b,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        return losses_b.mean()


def _without_padding(x: Tensor, lengths_b: Tensor) -> Tensor:
    """Return a batch, time last, with zeros beyond each sample's length."""
    frames_t = torch.arange(x.shape[-1], device=x.device)
    sounds_bt = frames_t < lengths_b[:, None]
    return x * sounds_bt.view(len(x), *([1] * (x.dim() - 2)), -1)
