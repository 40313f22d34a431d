"""Fine-tune a model of Hugging Face transformers: is this line of Python code, or a comment?

python examples/fine_tune.py --steps 60
eflaunch --slots 4 --deadline 10m examples/fine_tune.py --steps 300
eflaunch --deadline 1h examples/fine_tune.py --model bert-base-uncased --batch-size 256   # GPUs

Without --model it starts from a small BERT with random weights that reads bytes: no network needed.
"""

import argparse
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from eflib import ElasticTrainer

LONGEST = 64  # characters of a line
NUM_FILES = 40


def lines() -> list[tuple[str, int]]:
    """Return lines of Python's own sources without what gives them away: 1 is a comment."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:NUM_FILES]
    found = []
    for line in (line.strip() for file in files for line in file.read_text("utf-8").splitlines()):
        text = line.lstrip("# ")[:LONGEST]
        if len(text) > 10:
            found.append((text, int(line.startswith("#"))))
    return found


def bytes_of(texts: list[str]) -> dict[str, Tensor]:
    """Pad to the longest of the texts; the names are those of the model's arguments."""
    rows = [text.encode() for text in texts]
    longest = max(map(len, rows))
    seen = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    tokens = [list(row.ljust(longest, b"\0")) for row in rows]
    return {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(seen)}


def starting_point(name: str | None) -> tuple[Any, Callable[[list[str]], Any]]:
    """Return a model, and what makes its inputs of texts."""
    if name:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        return model, partial(tokenizer, padding=True, truncation=True, return_tensors="pt")
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=256, intermediate_size=128, num_labels=2, **small)
    return AutoModelForSequenceClassification.from_config(config), bytes_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32, help="per step, over all workers")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--model", help="a folder or a name at Hugging Face to start from")
    args = parser.parse_args()
    torch.manual_seed(0)
    model, encode = starting_point(args.model)

    def collate(samples: list[tuple[str, int]]) -> dict[str, Tensor]:
        texts, labels = zip(*samples, strict=True)
        return {**encode(list(texts)), "labels": torch.tensor(labels)}

    trainer = ElasticTrainer(
        model,
        torch.optim.AdamW(model.parameters(), lr=args.lr),
        lines(),
        collate_fn=collate,
        global_batch_size=args.batch_size,
        max_steps=args.steps,
        max_grad_norm=1.0,
    )
    for batch in trainer:
        trainer.step(model(**batch).loss)
    if trainer.rank == 0:
        print(f"fine_tune: {trainer.global_step} steps, loss {trainer.loss:.3f}")


if __name__ == "__main__":
    main()
