#!/usr/bin/env python3
"""PyTorch's side of the inference comparison: CIFAR ResNets on the CIFAR-10 test images.

Without --steps: the accuracy on all test images and the median time of n passes over them.
With --steps: the median time of single batches. Both print one JSON document whose key
"seconds" is what benches/interleave.py compares.

PyTorch gets the treatment that makes it fastest on a CPU: the better of the two memory formats,
inference mode, inputs normalised and laid out before the clock starts, and an allocator that
keeps its pages (the script re-executes itself with the variables for that).
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

# glibc returns large blocks to the system after every operator; page faults then dominate.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "20000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def tune_allocator():
    """Re-executes this process with ALLOCATOR set: glibc reads the variables only at start."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})


if __name__ == "__main__":
    tune_allocator()

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHECKPOINTS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut: every second pixel, channels zero-padded."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = (outputs - inputs) // 2

    def shortcut(self, x):
        if self.padding == 0:
            return x
        sampled = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(sampled, (0, 0, 0, 0, self.padding, self.padding))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """The ResNet of He et al. 2016, section 4.2: depth 6n + 2, widths 16, 32, 64."""

    def __init__(self, depth, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks = (depth - 2) // 6
        self.layer1 = self.stage(16, 16, blocks, 1)
        self.layer2 = self.stage(16, 32, blocks, 2)
        self.layer3 = self.stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def stage(inputs, outputs, blocks, stride):
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def load_checkpoint(path):
    """The state dict of a checkpoint, names without the `module.` of DataParallel."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def build(model, state):
    network = CifarResNet(int(model.removeprefix("resnet")))
    # Checkpoints from before PyTorch 0.4.1 have no batch counters; everything else must match.
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"{model}: missing tensors {missing}, unexpected tensors {unexpected}")
    return network.eval()


def load_cifar10(path, limit=None):
    """Images [n, 3, 32, 32] as normalised f32, labels [n], of a CIFAR-10 binary file."""
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)[:limit]
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)).float().div_(255)
    images.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


@torch.inference_mode()
def count_correct(network, batches):
    """How many images of [(images, labels)] get their label."""
    return sum(int((network(images).argmax(1) == labels).sum()) for images, labels in batches)


def fold_batch_norm(network):
    """Folds every batch norm into the convolution before it."""
    for module in [network, *(m for m in network.modules() if isinstance(m, BasicBlock))]:
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
            if hasattr(module, conv):
                fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, fused)
                setattr(module, norm, nn.Identity())
    return network


def timed(function, repeats, warmup):
    """Seconds of each of `repeats` calls, after `warmup` calls that do not count."""
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure(network, images, labels, memory_format, arguments):
    """Times one memory format: passes over all images, or with --steps single batches."""
    layout = MEMORY_FORMATS[memory_format]
    network = network.to(memory_format=layout)
    batches = [
        (batch.contiguous(memory_format=layout), truth)
        for batch, truth in zip(images.split(arguments.batch), labels.split(arguments.batch))
    ]
    if arguments.steps:
        batch = batches[0][0]
        with torch.inference_mode():
            seconds = timed(lambda: network(batch), arguments.steps, warmup=3)
        return {"seconds": statistics.median(seconds), "fastest": min(seconds)}
    correct = []
    seconds = timed(lambda: correct.append(count_correct(network, batches)), arguments.repeats, 1)
    if len(set(correct)) != 1:
        sys.exit(f"{memory_format}: passes disagree about the accuracy: {sorted(set(correct))}")
    return {"seconds": statistics.median(seconds), "fastest": min(seconds), "correct": correct[0]}


def processor():
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", choices=CHECKPOINTS)
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("WEIGHTSPACE_DATA"),
        help="folder with cifar-10-batches-bin/ and resnets/ (default: WEIGHTSPACE_DATA)",
    )
    parser.add_argument("--checkpoint", type=Path, help="default: DATA_DIR/resnets/<published name>")
    parser.add_argument("--batch", type=int, default=256, help="images per batch (default 256)")
    parser.add_argument("--steps", type=int, help="time N single batches, not whole passes")
    parser.add_argument("--repeats", type=int, default=9, help="timed passes (default 9)")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument(
        "--memory-format", choices=["best", *MEMORY_FORMATS], default="best", help="default best"
    )
    parser.add_argument("--fold-bn", action="store_true", help="fold batch norms beforehand")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("give --data-dir or set WEIGHTSPACE_DATA")
    if min(arguments.batch, arguments.repeats, arguments.threads, arguments.steps or 1) < 1:
        parser.error("--batch, --steps, --repeats and --threads must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    default = arguments.data_dir / "resnets" / CHECKPOINTS[arguments.model]
    network = build(arguments.model, load_checkpoint(arguments.checkpoint or default))
    if arguments.fold_bn:
        network = fold_batch_norm(network)

    start = time.perf_counter()
    test_file = arguments.data_dir / "cifar-10-batches-bin" / "test_batch.bin"
    images, labels = load_cifar10(test_file, arguments.batch if arguments.steps else None)
    load_seconds = time.perf_counter() - start

    wanted = arguments.memory_format
    formats = list(MEMORY_FORMATS) if wanted == "best" else [wanted]
    results = {name: measure(network, images, labels, name, arguments) for name in formats}
    best = min(results, key=lambda name: results[name]["seconds"])

    report = {
        "engine": f"PyTorch {torch.__version__}",
        "processor": processor(),
        "model": arguments.model,
        "threads": arguments.threads,
        "batch": len(images) if arguments.steps else arguments.batch,
        "repeats": arguments.steps or arguments.repeats,
        "fold_bn": arguments.fold_bn,
        "memory_format": best,
        "seconds": results[best]["seconds"],
    }
    if arguments.steps:
        report["milliseconds_per_batch"] = results[best]["seconds"] * 1000
    else:
        correct = results[best]["correct"]
        report |= {"accuracy": correct / len(labels), "correct": correct, "total": len(labels)}
        report["load_seconds"] = load_seconds
    print(json.dumps(report | {"formats": results}, indent=2))


if __name__ == "__main__":
    main()
