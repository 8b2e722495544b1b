#!/usr/bin/env python3
"""Windows of tokens of a ResNet-18: permuting and tokenising the whole model for each of them, as the published
program does, beside ours, in turns.

    cargo build --release -p weightspace --example window_speed
    python numpy_windows.py target/release/examples/window_speed -n 5

Theirs, in NumPy and in PyTorch: permute the units of every group at random in all tensors of a model that is in memory,
make rows of all weights, cut them into tokens of 288, take 256 consecutive ones. Batch normalisations have units that move, but
are no tokens, on both sides. One thread each. Prints one JSON document: windows per second, medians of turns, ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from safetensors.numpy import load_file

SIZE, WINDOW = 288, 256
NORM = ["weight", "bias", "running_mean", "running_var"]


def groups(names):
    """For each group of units its members: (tensor, axis)."""
    members = {"s0": [("conv1.weight", 0), *((f"bn1.{part}", 0) for part in NORM)]}
    stream = "s0"
    for stage in range(1, 5):
        for block in range(2):
            name = f"layer{stage}.{block}"
            inner = members.setdefault(name, [])
            members[stream].append((f"{name}.conv1.weight", 1))
            inner += [(f"{name}.conv1.weight", 0), *((f"{name}.bn1.{part}", 0) for part in NORM)]
            inner.append((f"{name}.conv2.weight", 1))
            shortcut = f"{name}.downsample"
            if f"{shortcut}.0.weight" in names:
                members[stream].append((f"{shortcut}.0.weight", 1))
                stream = f"s{stage}"
                members[stream] = [(f"{shortcut}.0.weight", 0)]
                members[stream] += [(f"{shortcut}.1.{part}", 0) for part in NORM]
            members[stream] += [(f"{name}.conv2.weight", 0)]
            members[stream] += [(f"{name}.bn2.{part}", 0) for part in NORM]
    members[stream].append(("fc.weight", 1))
    return list(members.values())


class Numpy:
    def __init__(self, model):
        self.model = model

    def permuted(self, group, model, random):
        order = random.permutation(model[group[0][0]].shape[group[0][1]])
        for name, axis in group:
            model[name] = np.take(model[name], order, axis=axis)

    def rows(self, weight, bias):
        rows = weight.reshape(len(weight), -1)
        return rows if bias is None else np.concatenate([rows, bias[:, None]], axis=1)

    def chunks(self, rows):
        count = -(-rows.shape[1] // SIZE)
        padded = np.zeros((len(rows), count * SIZE), np.float32)
        padded[:, : rows.shape[1]] = rows
        return padded.reshape(-1, SIZE)

    def joined(self, parts):
        return np.concatenate(parts)


class Torch(Numpy):
    def __init__(self, model):
        super().__init__({name: torch.from_numpy(array) for name, array in model.items()})

    def permuted(self, group, model, random):
        order = torch.from_numpy(random.permutation(model[group[0][0]].shape[group[0][1]]))
        for name, axis in group:
            model[name] = model[name].index_select(axis, order)

    def rows(self, weight, bias):
        rows = weight.reshape(len(weight), -1)
        return rows if bias is None else torch.cat([rows, bias[:, None]], dim=1)

    def chunks(self, rows):
        padding = -rows.shape[1] % SIZE
        return torch.nn.functional.pad(rows, (0, padding)).reshape(-1, SIZE)

    def joined(self, parts):
        return torch.cat(parts)


def window(library, spec, random):
    model = dict(library.model)
    for group in spec:
        library.permuted(group, model, random)
    layers = [name for name, tensor in model.items() if tensor.ndim > 1]
    bias = {name: model.get(name.replace("weight", "bias")) for name in layers}
    tokens = library.joined([library.chunks(library.rows(model[n], bias[n])) for n in layers])
    start = random.integers(len(tokens) - WINDOW + 1)
    return tokens[start : start + WINDOW], len(tokens)


def rate(library, spec, seconds):
    random = np.random.default_rng(0)
    _, tokens = window(library, spec, random)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        window(library, spec, random)
        count += 1
    return count / (time.perf_counter() - start), tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", help="the example window_speed")
    parser.add_argument("-n", "--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet18.safetensors"
        run = [options.program, str(file), "2000", str(WINDOW)]
        ours = lambda: json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout)
        tokens = ours()["tokens"]
        model = {name: array for name, array in load_file(file).items()}
        spec = groups(model)
        libraries = {"numpy": Numpy(model), "torch": Torch(model)}
        found = {"ours": [], "numpy": [], "torch": []}
        for _ in range(options.turns):
            found["ours"].append(ours()["windows_per_second"])
            for name, library in libraries.items():
                per_second, count = rate(library, spec, options.seconds)
                assert count == tokens, (count, tokens)
                found[name].append(per_second)
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    ratios = {name: medians["ours"] / medians[name] for name in libraries}
    print(json.dumps({"tokens": tokens, "window": WINDOW, "turns": found, "medians": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()
