#!/usr/bin/env python3
"""PyTorch's side of the comparison of accuracy: ResNet-20 on CIFAR-10 from scratch.

The recipe: PyTorch's initial weights; batches of 128 in a new order every epoch, the last one
shorter; crops of 32x32 after a border of 4 black pixels, mirrored with probability 1/2, then
normalised as the published checkpoints want; mean cross-entropy; SGD with Nesterov momentum 0.9
and weight decay 5e-4 on every parameter; one cycle over all steps: the learning rate rises as a
cosine from max / 25 over the first 30 %, then falls to max / 250,000; the momentum stays. No
selection: the accuracy is that of the weights after the last step, on all 10,000 test images.

Fused SGD, channels_last, the tuned allocator of pytorch_eval.py. The key "seconds" covers the
training with its augmentation, not reading and testing. Progress goes to stderr, one JSON document
to stdout.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import pytorch_eval

if __name__ == "__main__":
    pytorch_eval.tune_allocator()

import numpy as np
import torch
from torch.nn import functional

BORDER = 4
TRAINING_FILES = [f"data_batch_{i}.bin" for i in range(1, 6)]


def load_pixels(files):
    """Images [n, 3, 32, 32] as bytes, labels [n], of CIFAR-10 binary files."""
    records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files])
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


class Augment:
    """Random crops and mirror images, normalised, in channels_last."""

    def __init__(self):
        # Every byte's normalised value, per channel.
        mean, std = torch.tensor(pytorch_eval.MEAN), torch.tensor(pytorch_eval.STD)
        self.scale = 1 / (255 * std)
        self.offset = -mean / std

    def __call__(self, images):
        count, _, height, width = images.shape
        bordered = functional.pad(images, [BORDER] * 4).permute(0, 2, 3, 1)
        top, left = torch.randint(2 * BORDER + 1, (2, count, 1))
        rows = top + torch.arange(height)
        columns = left + torch.arange(width)
        mirrored = torch.rand(count, 1) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
        samples = torch.arange(count).view(-1, 1, 1)
        pixels = bordered[samples, rows[:, :, None], columns[:, None, :]]
        return (pixels * self.scale + self.offset).permute(0, 3, 1, 2)


def train(network, images, labels, arguments):
    """Trains in place. Returns the steps taken and the mean loss of every epoch."""
    steps_per_epoch = -(-len(images) // arguments.batch)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=arguments.max_learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        arguments.max_learning_rate,
        total_steps=arguments.epochs * steps_per_epoch,
        cycle_momentum=False,
    )
    augment = Augment()
    steps, losses = 0, []
    for epoch in range(arguments.epochs):
        total = seen = 0
        for batch in torch.randperm(len(images)).split(arguments.batch):
            if steps == arguments.stop_after:
                break
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(augment(images[batch])), labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
            seen += len(batch)
            steps += 1
        if seen:
            losses.append(total / seen)
            print(f"epoch {epoch + 1}: loss {losses[-1]:.4f}", file=sys.stderr)
    return steps, losses


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("WEIGHTSPACE_DATA"),
        help="folder with cifar-10-batches-bin/ (default: WEIGHTSPACE_DATA)",
    )
    parser.add_argument("--epochs", type=int, default=5, help="default 5")
    parser.add_argument("--batch", type=int, default=128, help="default 128")
    parser.add_argument("--max-learning-rate", type=float, default=0.1, help="default 0.1")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--stop-after", type=int, metavar="STEPS", help="a short run, as a check")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("give --data-dir or set WEIGHTSPACE_DATA")
    if min(arguments.epochs, arguments.batch, arguments.threads, arguments.stop_after or 1) < 1:
        parser.error("--epochs, --batch, --threads and --stop-after must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    folder = arguments.data_dir / "cifar-10-batches-bin"
    images, labels = load_pixels([folder / name for name in TRAINING_FILES])
    network = pytorch_eval.CifarResNet(20).to(memory_format=torch.channels_last)

    start = time.perf_counter()
    steps, losses = train(network, images, labels, arguments)
    seconds = time.perf_counter() - start

    network.eval()
    images, labels = pytorch_eval.load_cifar10(folder / "test_batch.bin")
    images = images.contiguous(memory_format=torch.channels_last)
    batches = list(zip(images.split(256), labels.split(256)))
    correct = pytorch_eval.count_correct(network, batches)
    report = {
        "engine": f"PyTorch {torch.__version__}",
        "processor": pytorch_eval.processor(),
        "model": "resnet20",
        "epochs": arguments.epochs,
        "batch": arguments.batch,
        "max_learning_rate": arguments.max_learning_rate,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "steps": steps,
        "losses": losses,
        "accuracy": correct / len(labels),
        "correct": correct,
        "total": len(labels),
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        # Linux counts in KiB.
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
