"""Elastic PyTorch training with deadlines.

``from eflib import ElasticTrainer`` is all that a training script needs; ``ElasticSampler`` and
``ElasticLoader`` are its data without it. The names are loaded on first use, so that
``import eflib`` alone, and the command line with it, stays free of torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eflib.trainer.data.sampler import ElasticLoader, ElasticSampler
    from eflib.trainer.trainer import ElasticTrainer

__version__ = "0.1.0"
__all__ = ["ElasticLoader", "ElasticSampler", "ElasticTrainer", "__version__"]


def __getattr__(name: str) -> object:
    if name == "ElasticTrainer":
        from eflib.trainer.trainer import ElasticTrainer  # noqa: PLC0415 - lazy: torch takes seconds

        return ElasticTrainer
    if name in {"ElasticLoader", "ElasticSampler"}:
        from eflib.trainer.data import sampler  # noqa: PLC0415 - lazy: torch takes seconds

        return getattr(sampler, name)
    raise AttributeError(f"module 'eflib' has no attribute {name!r}")
