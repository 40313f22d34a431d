"""The loop you have: plain PyTorch, one process. Run it with: python step0_plain.py"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 20
bunch = load_digits()
images = torch.tensor(bunch.data / 16.0, dtype=torch.float32)
data = TensorDataset(images, torch.tensor(bunch.target))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
schedule = CosineAnnealingLR(optimizer, T_max=580)
average = AveragedModel(model)
loader = DataLoader(data, batch_size=64, shuffle=True)

for epoch in range(EPOCHS):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
    print(f"epoch {epoch}, loss {loss:.3f}")
torch.save(average.module.state_dict(), "digits.pt")
