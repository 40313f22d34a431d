"""Any number of workers fits. Run it with: eflaunch --slots 4 --deadline 10m step5_deadline.py"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import TensorDataset

from eflib import ElasticTrainer
from eflib.trainer.callback import Callback

EPOCHS = 20
bunch = load_digits()
images = torch.tensor(bunch.data / 16.0, dtype=torch.float32)
data = TensorDataset(images, torch.tensor(bunch.target))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
schedule = CosineAnnealingLR(optimizer, T_max=580)
average = AveragedModel(model)


class Averaging(Callback):
    def on_step_end(self, trainer):
        average.update_parameters(model)


trainer = ElasticTrainer(
    model,
    optimizer,
    data,
    global_batch_size=64,
    max_epochs=EPOCHS,
    epoch_end="short",
    lr_scheduler=schedule,
    max_microbatch_size=32,
    callbacks=[Averaging()],
)
trainer.register("average", average.to(trainer.device))

for epoch in trainer.epochs():
    for inputs, targets in trainer:
        loss = nn.functional.cross_entropy(model(inputs), targets)
        trainer.step(loss)
    if trainer.rank == 0:
        print(f"epoch {epoch}, loss {trainer.loss:.3f}")
if trainer.rank == 0:
    torch.save(average.module.state_dict(), "digits.pt")
