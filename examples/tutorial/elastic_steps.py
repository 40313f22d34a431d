"""The same, elastic: page "from torchrun" shows what changed."""

import argparse
import inspect

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset

from eflib import ElasticTrainer

LENGTH = 32


class GPT(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.token = nn.Embedding(128, width)
        self.place = nn.Parameter(torch.zeros(LENGTH, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 4 * width, batch_first=True)
        self.head = nn.Linear(width, 128)

    def forward(self, tokens, targets):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], tokens.device)
        hidden = self.block(self.token(tokens) + self.place, src_mask=mask, is_causal=True)
        logits = self.head(hidden)
        return logits, cross_entropy(logits.flatten(0, 1), targets.flatten())


def rate(step):
    return 3e-3 * min(1.0, (step + 1) / 10)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16, help="per micro-batch")
    parser.add_argument("--accumulation", type=int, default=4, help="micro-batches over all")
    parser.add_argument("--characters", type=int, default=2000)
    args = parser.parse_args()
    torch.manual_seed(0)
    text = inspect.getsource(argparse)[: args.characters]
    codes = torch.tensor([min(ord(c), 127) for c in text])
    windows = codes.unfold(0, LENGTH + 1, 1)
    dataset = TensorDataset(windows[:, :-1], windows[:, 1:])
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    trainer = ElasticTrainer(
        model,
        optimizer,
        dataset,
        global_batch_size=args.batch_size * args.accumulation,
        max_microbatch_size=args.batch_size,
        max_steps=args.steps,
        max_grad_norm=1.0,
        lr_scheduler=LambdaLR(optimizer, rate),
    )
    for inputs, targets in trainer:
        step = trainer.global_step
        _, loss = model(inputs, targets)
        if trainer.step(loss) and trainer.rank == 0 and step % 10 == 0:
            print(f"step {step}: loss {trainer.loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
