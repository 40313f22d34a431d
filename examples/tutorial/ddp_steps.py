"""A character model in the form of nanoGPT: steps without epochs, on random windows of one text."""

import argparse
import inspect
import os

import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel as DDP

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
    init_process_group("gloo")
    rank, accumulation = int(os.environ["RANK"]), args.accumulation // int(os.environ["WORLD_SIZE"])
    torch.manual_seed(rank)
    text = inspect.getsource(argparse)[: args.characters]
    codes = torch.tensor([min(ord(c), 127) for c in text])

    def get_batch():
        starts = torch.randint(len(codes) - LENGTH, (args.batch_size,))
        windows = torch.stack([codes[start : start + LENGTH + 1] for start in starts])
        return windows[:, :-1], windows[:, 1:]

    model = DDP(GPT())
    optimizer = torch.optim.AdamW(model.parameters())
    inputs, targets = get_batch()
    step = 0
    while True:
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        for micro_step in range(accumulation):
            model.require_backward_grad_sync = micro_step == accumulation - 1
            _, loss = model(inputs, targets)
            inputs, targets = get_batch()
            (loss / accumulation).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if rank == 0 and step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
        step += 1
        if step >= args.steps:
            break
    destroy_process_group()


if __name__ == "__main__":
    main()
