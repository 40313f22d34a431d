"""A classifier in the form of public DDP examples: functions, a loop over epochs, torchrun."""

import argparse
import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.drop = nn.Dropout(0.25)
        self.out = nn.Linear(16 * 6 * 6, 10)

    def forward(self, x):
        return self.out(self.drop(torch.relu(self.conv(x)).flatten(1)))


def train(model, loader, optimizer, device):
    for images, digits in loader:
        images, digits = images.to(device), digits.to(device)
        optimizer.zero_grad()
        loss = cross_entropy(model(images), digits)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def test(model, data, device):
    model.eval()
    images, digits = (part.to(device) for part in data)
    correct = model(images).argmax(1) == digits
    model.train()
    return correct.float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    use_cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if use_cuda else "gloo")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if use_cuda else "cpu"
    torch.manual_seed(1)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    train_set = TensorDataset(images[:1500], labels[:1500])
    model = DistributedDataParallel(Net().to(device))
    optimizer = torch.optim.Adadelta(model.parameters())
    sampler = DistributedSampler(train_set)
    loader = DataLoader(train_set, batch_size=args.batch_size, sampler=sampler)
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        train(model, loader, optimizer, device)
        if int(os.environ["RANK"]) == 0:
            accuracy = test(model, (images[1500:], labels[1500:]), device)
            print(f"epoch {epoch}: accuracy {accuracy:.3f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
