"""Writes the state dicts' names and shapes beside this file, one tensor a line, in PyTorch's order.

Usage: make.py CHECKPOINT, the checkpoint being resnet20-12fca82f.th of akamaster/pytorch_resnet_cifar10.
Needs torch and torchvision (0.29 when the files were made).
"""

import pathlib
import sys

import torch
import torchvision

FOLDER = pathlib.Path(__file__).parent


def write(name, state_dict):
    lines = (f"{k} {'x'.join(map(str, v.shape)) or '-'}\n" for k, v in state_dict.items())
    (FOLDER / f"{name}.txt").write_text("".join(lines))


trained = torch.load(sys.argv[1], map_location="cpu", weights_only=True)["state_dict"]
write("resnet20", {k.removeprefix("module."): v for k, v in trained.items()})
write("resnet18", torchvision.models.resnet18().state_dict())
write("resnet50", torchvision.models.resnet50().state_dict())
