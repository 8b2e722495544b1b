"""Trains the small networks beside this file on the handwritten digits (8x8) that the binary embeds.

    pip install torch scikit-learn
    python tests/golden/models/make.py

- digits-mlp.pt: mlp:64-32-10, pixels scaled to 0..1; a training checkpoint with a nested state dict.
- digits-cnn.pt: zoo-cnn, pixels scaled to 0..1 and padded to 28x28 (`unit-pad28`).

The last 360 digits are the test set. Prints how many of them each network gets right when PyTorch
evaluates it; the tests expect exactly these numbers. They are repeated on one machine with one version
of PyTorch; on another the weights, and the numbers, may differ.
"""

import pathlib

import torch
from sklearn.datasets import load_digits

HERE = pathlib.Path(__file__).parent
TRAIN = 1437


def train(model, images, labels, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    steps = epochs * (TRAIN // 48 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(TRAIN).split(48):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return int((model(images[TRAIN:]).argmax(1) == labels[TRAIN:]).sum())


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


class Cnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        nn = torch.nn
        conv = lambda i, o, k: [nn.Conv2d(i, o, k), nn.MaxPool2d(2, 2), nn.Tanh()]
        last = [nn.Conv2d(6, 4, 2), nn.Tanh()]
        head = [nn.Flatten(), nn.Linear(36, 20), nn.Tanh(), nn.Linear(20, 10)]
        self.module_list = nn.ModuleList(conv(1, 8, 5) + conv(8, 6, 5) + last + head)

    def forward(self, x):
        for module in self.module_list:
            x = module(x)
        return x


torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)

model = mlp()
correct = train(model, images.flatten(1), labels, 60)
torch.save({"state_dict": model.state_dict(), "epoch": 60}, HERE / "digits-mlp.pt")
print("digits-mlp.pt", correct, "of 360")

model = Cnn()
padded = torch.nn.functional.pad(images, (10, 10, 10, 10))[:, None]
correct = train(model, padded, labels, 60)
torch.save(model.state_dict(), HERE / "digits-cnn.pt")
print("digits-cnn.pt", correct, "of 360")
