"""The same, elastic: page "from torchrun" shows what changed."""

import argparse
import inspect

import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset

from eflib import ElasticTrainer


class Characters(Dataset):
    def __init__(self, text, length):
        self.length = length
        self.codes = torch.tensor([min(ord(c), 127) for c in text])

    def __len__(self):
        return len(self.codes) - self.length

    def __getitem__(self, index):
        piece = self.codes[index : index + self.length + 1]
        return piece[:-1], piece[1:]


class GPT(nn.Module):
    def __init__(self, length, width=32):
        super().__init__()
        self.token = nn.Embedding(128, width)
        self.place = nn.Parameter(torch.zeros(length, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 4 * width, batch_first=True)
        self.head = nn.Linear(width, 128)

    def forward(self, tokens, targets):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], tokens.device)
        hidden = self.block(self.token(tokens) + self.place, src_mask=mask, is_causal=True)
        logits = self.head(hidden)
        return logits, cross_entropy(logits.flatten(0, 1), targets.flatten())


class Trainer:
    def __init__(self, model, optimizer, loader, max_epochs):
        self.optimizer = optimizer
        self.loader = loader
        self.max_epochs = max_epochs
        self.model = model

    def run_batch(self, tokens, targets):
        _, loss = self.model(tokens, targets)
        self.loader.step(loss)
        return loss.item()

    def run_epoch(self, epoch):
        for number, (tokens, targets) in enumerate(self.loader):
            loss = self.run_batch(tokens, targets)
            if number % 10 == 0:
                print(f"epoch {epoch} batch {number} loss {loss:.3f}", flush=True)

    def train(self):
        for epoch in self.loader.epochs():
            self.run_epoch(epoch)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--characters", type=int, default=2000)
    args = parser.parse_args()
    epochs, batch = args.epochs, args.batch_size
    torch.manual_seed(0)
    dataset = Characters(inspect.getsource(argparse)[: args.characters], length=32)
    model = GPT(length=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = ElasticTrainer(model, optimizer, dataset, global_batch_size=batch, max_epochs=epochs)
    trainer = Trainer(model, optimizer, loader, epochs)
    trainer.train()


if __name__ == "__main__":
    main()
