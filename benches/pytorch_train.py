#!/usr/bin/env python3
"""PyTorch's side of the comparison of steps: one whole step of each work, seconds.

  resnet20-train, resnet56-train  batch 128 of 3x32x32, SGD with momentum 0.9, weight decay 1e-4,
                                  mean cross-entropy
  resnet20-inference              batch 256, inference mode; --fold-bn folds the batch norms
  lenet-train                     batch 64 of 1x28x28, the optimiser and loss of ResNet-20
  nern-train                      MLP 240-280-280-280-280-9 with ReLU, 4,096 rows, mean squared
                                  error, Adam
  transformer-train               autoencoder of weights (SANE): width 256, 4 + 4 blocks, 4 heads,
                                  latent 128, 32 windows of 32 tokens of 289, squared error of what
                                  the mask leaves (40 %), AdamW with weight decay on matrices only;
                                  without the projection head and its contrastive loss

A step of training is zero_grad, forward, loss, backward and the optimiser's step. Inputs are drawn
from a fixed seed and laid out before the clock starts; weights are PyTorch's initial ones.

PyTorch gets the treatment that makes it fastest on a CPU: an allocator that keeps its pages (see
pytorch_eval.py), the better memory format, the fastest of the optimiser's loops. Steps of each
choice in turn decide by their fastest, then the best one is timed. Eager mode, no compiler.
Prints one JSON document whose key "seconds", the median of a step, benches/interleave.py compares.
"""

import argparse
import itertools
import json
import resource
import statistics
import time

import pytorch_eval

if __name__ == "__main__":
    pytorch_eval.tune_allocator()

import torch
from pytorch_networks import LeNet, WeightAutoencoder
from torch import nn
from torch.nn import functional

MEMORY_FORMATS = pytorch_eval.MEMORY_FORMATS
OPTIMIZER_LOOPS = {
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "for-loop": {"foreach": False, "fused": False},
}
WARMUP = 3


def trainer(network, optimizer, loss):
    """A step of training; `loss` gives the loss of the batch."""

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    network.train()
    return step


def classify(network, shape, layout, loop):
    network = network.to(memory_format=layout)
    images = torch.randn(shape).contiguous(memory_format=layout)
    labels = torch.randint(10, shape[:1])
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, **loop
    )
    return trainer(network, optimizer, lambda: functional.cross_entropy(network(images), labels))


def resnet_train(depth):
    return lambda layout, loop: classify(
        pytorch_eval.CifarResNet(depth), (128, 3, 32, 32), layout, loop
    )


def resnet20_inference(fold_bn):
    def prepare(layout):
        network = pytorch_eval.CifarResNet(20).eval()
        if fold_bn:
            network = pytorch_eval.fold_batch_norm(network)
        network = network.to(memory_format=layout)
        images = torch.randn(256, 3, 32, 32).contiguous(memory_format=layout)
        return torch.inference_mode()(lambda: network(images))

    return prepare


def lenet_train(layout, loop):
    return classify(LeNet(), (64, 1, 28, 28), layout, loop)


def nern_train(loop):
    widths = [240, 280, 280, 280, 280, 9]
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise(widths)]
    network = nn.Sequential(*itertools.chain(*layers))[:-1]
    rows, target = 2 * torch.rand(4096, widths[0]) - 1, 0.1 * torch.randn(4096, widths[-1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, **loop)
    return trainer(network, optimizer, lambda: functional.mse_loss(network(rows), target))


def transformer_train(loop):
    batch, window, token, positions = 32, 32, 289, (100, 10, 40)
    network = WeightAutoencoder(
        token, width=256, heads=4, blocks=4, latent=128, positions=positions
    )
    mask = (torch.rand(batch, window, token) < 0.4).float()
    tokens = torch.randn(batch, window, token) * mask
    places = torch.stack([torch.randint(count, (batch, window)) for count in positions], -1)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 3e-9},
        {"params": [p for p in network.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, **loop)
    count = mask.sum()

    def loss():
        return ((network(tokens, places) - tokens) * mask).square().sum() / count

    return trainer(network, optimizer, loss)


# What each work leaves to choose, and the function that prepares its step from the choices.
IMAGES = ("memory_format", "optimizer_loop")
WORKS = {
    "resnet20-train": (IMAGES, 128, resnet_train(20)),
    "resnet56-train": (IMAGES, 128, resnet_train(56)),
    "resnet20-inference": (IMAGES[:1], 256, resnet20_inference(fold_bn=False)),
    "lenet-train": (IMAGES, 64, lenet_train),
    "nern-train": (IMAGES[1:], 4096, nern_train),
    "transformer-train": (IMAGES[1:], 32, transformer_train),
}
CHOICES = {"memory_format": MEMORY_FORMATS, "optimizer_loop": OPTIMIZER_LOOPS}


def combinations(names, wanted):
    """Every combination of the choices, {name: value}; `wanted` are values or "best"."""
    values = [CHOICES[name] if value == "best" else [value] for name, value in zip(names, wanted)]
    return [dict(zip(names, combination)) for combination in itertools.product(*values)]


def prepared(prepare, choice):
    """The step of a choice; always the same weights and inputs."""
    torch.manual_seed(0)
    return prepare(*(CHOICES[name][value] for name, value in choice.items()))


def trials(prepare, choices, seconds):
    """[(seconds of the fastest step, choice)], fastest first; the choices step in turn."""
    steps = [prepared(prepare, choice) for choice in choices]
    times = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while len(times[0]) < WARMUP or time.perf_counter() < end:
        for step, taken in zip(steps, times):
            taken += pytorch_eval.timed(step, repeats=1, warmup=0)
    return sorted(zip(map(min, times), choices), key=lambda trial: trial[0])


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--steps", type=int, default=25, help="timed steps (default 25)")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--fold-bn", action="store_true", help="fold batch norms (inference only)")
    for name, values in CHOICES.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, choices=["best", *values], default="best", help="default best")
    parser.add_argument(
        "--trial-seconds", type=float, default=4, help="time to find the best (default 4)"
    )
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.threads) < 1:
        parser.error("--steps and --threads must be at least 1")
    if arguments.fold_bn and not arguments.work.endswith("inference"):
        parser.error("--fold-bn is for inference")
    return arguments


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    names, batch, prepare = WORKS[arguments.work]
    if arguments.fold_bn:
        prepare = resnet20_inference(fold_bn=True)

    choices = combinations(names, [getattr(arguments, name) for name in names])
    tried = trials(prepare, choices, arguments.trial_seconds) if len(choices) > 1 else []
    best = tried[0][1] if tried else choices[0]
    samples = pytorch_eval.timed(prepared(prepare, best), arguments.steps, WARMUP)

    report = {
        "engine": f"PyTorch {torch.__version__}",
        "processor": pytorch_eval.processor(),
        "work": arguments.work,
        "threads": arguments.threads,
        "batch": batch,
        "steps": arguments.steps,
        "fold_bn": arguments.fold_bn,
        **best,
        "seconds": statistics.median(samples),
        "fastest": min(samples),
        "samples": samples,
        # Linux counts in KiB.
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trials": [choice | {"fastest": fastest} for fastest, choice in tried],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
