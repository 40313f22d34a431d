"""The trainer deals out the batches and takes the step. Run it with: python step1_trainer.py"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import TensorDataset

from eflib import ElasticTrainer

EPOCHS = 20
bunch = load_digits()
images = torch.tensor(bunch.data / 16.0, dtype=torch.float32)
data = TensorDataset(images, torch.tensor(bunch.target))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
schedule = CosineAnnealingLR(optimizer, T_max=580)
average = AveragedModel(model)
trainer = ElasticTrainer(
    model,
    optimizer,
    data,
    global_batch_size=64,
    max_epochs=EPOCHS,
    epoch_end="short",
)

for epoch in trainer.epochs():
    for inputs, targets in trainer:
        loss = nn.functional.cross_entropy(model(inputs), targets)
        trainer.step(loss)
        schedule.step()
        average.update_parameters(model)
    print(f"epoch {epoch}, loss {loss:.3f}")
torch.save(average.module.state_dict(), "digits.pt")
