#!/usr/bin/env python3
"""PyTorch's side of the comparison of predictors: NeRN's recipe on the kernels of ResNet-20.

    python pytorch_predictor.py [--hidden 140] [--steps 500] [--schedule 68600] [--work lean|reference]

The predictor reads 40 levels of sines and cosines (base 0.76) of (layer, filter, channel), or with
--coordinates local of these divided by their numbers, and has five linear layers with ReLU. The target is the
3 x 3 kernels of the published ResNet-20, with kernels and filters in greedy in-filter order. The optimiser is
Ranger: RAdam with betas .5 and .999, eps 1e-5, decoupled decay 1e-3, and Lookahead (6 steps, half way), with
--centralise also centralised gradients; rate 5e-3, falling as a cosine over --schedule steps. 4,096 rows a step,
uniformly or by their norm (4 : 1); the gradient is that of the error of all rows, of which these are a share.

`lean` is the least that this recipe needs: one forward and one backward pass of the rows of a step. `reference` does
what the published program does in each of these steps besides: it predicts all other rows, builds the network,
and runs the original and the rebuilt network on a batch of 256 images.

One JSON document: the median time of a step, and the root mean square of the error of all kernels after
the last one.
"""

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path

import pytorch_eval

if __name__ == "__main__":
    pytorch_eval.tune_allocator()

import numpy as np
import torch
from torch import nn

LEVELS, BASE = 40, 0.76
ROWS, UNIFORM = 4096, 0.8


def in_filter_order(kernels):
    """Where each kernel [filter, channel] of a layer stands: greedy tours of nearest cosines."""

    def tour(similarity):
        left = np.ones(len(similarity), bool)
        path = [0]
        left[0] = False
        for _ in range(len(similarity) - 1):
            path.append(int(np.argmax(np.where(left, similarity[path[-1]], -np.inf))))
            left[path[-1]] = False
        return path

    unit = kernels / np.maximum(np.linalg.norm(kernels, axis=-1, keepdims=True), 1e-12)
    channels = [tour(rows @ rows.T) for rows in unit]
    ordered = np.stack([rows[path] for rows, path in zip(unit, channels)])
    filters = tour(np.einsum("aik,bik->ab", ordered, ordered))
    return [(f, c) for f in filters for c in channels[f]]


def rows_of(weights, local):
    """Embeddings [rows, 240] and kernels [rows, 9] of all layers."""
    inputs, targets = [], []
    for index, weight in enumerate(weights):
        filters, channels = weight.shape[:2]
        kernels = weight.reshape(filters, channels, 9).numpy()
        order = in_filter_order(kernels)
        targets += [kernels[f, c] for f, c in order]
        scale = (len(weights), filters, channels) if local else (1, 1, 1)
        places = [(index, *divmod(at, channels)) for at in range(filters * channels)]
        inputs += [tuple(p / s for p, s in zip(place, scale)) for place in places]
    points = torch.tensor(inputs, dtype=torch.float64)[:, :, None]
    angles = math.pi * points * BASE ** torch.arange(LEVELS, dtype=torch.float64)
    embedding = torch.stack([angles.sin(), angles.cos()], dim=-1)
    return embedding.flatten(1).float(), torch.tensor(np.stack(targets))


class Ranger:
    """RAdam, with gradients centralised if wanted, and Lookahead."""

    def __init__(self, parameters, steps, centralise):
        self.centralise = centralise
        self.parameters = list(parameters)
        self.fast = torch.optim.RAdam(
            self.parameters, lr=5e-3, betas=(0.5, 0.999), eps=1e-5, weight_decay=1e-3,
            decoupled_weight_decay=True, foreach=True,
        )  # fmt: skip
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.fast, steps, 1e-6)
        self.slow = [p.detach().clone() for p in self.parameters]
        self.count = 0

    @torch.no_grad()
    def step(self):
        if self.centralise:
            matrices = [p.grad for p in self.parameters if p.grad.dim() > 1]
            torch._foreach_sub_(matrices, [g.mean(1, keepdim=True) for g in matrices])
        self.fast.step()
        self.schedule.step()
        self.count += 1
        if self.count % 6 == 0:
            torch._foreach_lerp_(self.slow, self.parameters, 0.5)
            torch._foreach_copy_(self.parameters, self.slow)
        self.fast.zero_grad(set_to_none=True)


def predictor(hidden):
    widths = [6 * LEVELS, hidden, hidden, hidden, hidden, 9]
    layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


class ReferenceWork:
    """What the published program does in a step besides learning rows."""

    def __init__(self, network, convolutions):
        self.original, self.rebuilt = network.eval(), convolutions
        self.images = torch.randn(256, 3, 32, 32)

    @torch.no_grad()
    def __call__(self, rows):
        at = 0
        weights = {}
        for name, weight in self.rebuilt.items():
            count = weight.numel() // 9
            weights[name] = rows[at : at + count].reshape(weight.shape)
            at += count
        self.original(self.images)
        torch.func.functional_call(self.original, weights, (self.images,))


def main():
    parser = argparse.ArgumentParser()
    data = os.environ.get("WEIGHTSPACE_DATA", ".")
    parser.add_argument("--data-dir", type=Path, default=Path(data))
    parser.add_argument("--hidden", type=int, default=140)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--schedule", type=int, help="steps of the cosine [default: --steps]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", choices=["lean", "reference"], default="lean")
    parser.add_argument("--coordinates", choices=["raw", "local"], default="raw")
    parser.add_argument("--centralise", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    file = options.data_dir / "resnets" / pytorch_eval.CHECKPOINTS["resnet20"]
    network = pytorch_eval.build("resnet20", pytorch_eval.load_checkpoint(file))
    convolutions = {n: w.detach() for n, w in network.named_parameters() if w.dim() == 4}
    inputs, targets = rows_of(convolutions.values(), options.coordinates == "local")
    norms = targets.norm(dim=1)
    model = predictor(options.hidden)
    optimizer = Ranger(model.parameters(), options.schedule or options.steps, options.centralise)
    share = ROWS / len(inputs)
    reference = ReferenceWork(network, convolutions)
    times = []
    for _ in range(options.steps):
        start = time.perf_counter()
        if torch.rand(()) < UNIFORM:
            chosen = torch.randperm(len(inputs))[:ROWS]
        else:
            chosen = torch.multinomial(norms, ROWS, replacement=True)
        found = model(inputs[chosen])
        if options.work == "reference":
            with torch.no_grad():
                reference(model(inputs))
        ((found - targets[chosen]).square().mean().sqrt() * share).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    with torch.no_grad():
        rmse = (model(inputs) - targets).square().mean().sqrt().item()
    parameters = sum(p.numel() for p in model.parameters())
    print(
        json.dumps(
            {"work": options.work, "hidden": options.hidden, "parameters": parameters, "rows": len(inputs)}
            | {"steps": options.steps, "seconds": statistics.median(times), "total": sum(times)}
            | {"rmse": rmse, "threads": options.threads, "coordinates": options.coordinates}
        )
    )


if __name__ == "__main__":
    main()
