#!/usr/bin/env python3
"""Weight matching (git re-basin) of two ResNet-20s with NumPy and SciPy, beside ours, in turns.

The other network is a copy of the checkpoint with noise and its units in random order. The groups of units
are written by hand here, and matching follows the published algorithm: start at the identity, sweep over the
groups in random order, multiply all tensors of a group anew, assign with scipy.optimize.linear_sum_assignment,
stop when nothing improves. Reading files is not counted on either side.

    cargo build --release -p weightspace-nn --example align_speed
    python scipy_align.py target/release/examples/align_speed resnet20-12fca82f.th -n 9

A turn is 25 searches in one process, in other orders of the groups, after one that does not count; its time is
their median. Both sides use one thread. Prints one JSON document: seconds of every run, medians and their ratio, sweeps, squared distances.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from safetensors.numpy import save_file
from scipy.optimize import linear_sum_assignment

SEARCHES = 25
NORM = ["weight", "bias", "running_mean", "running_var"]


def groups():
    """For each group its members: (tensor, axis, places of the units on that axis)."""
    found = []
    # Channels of a stage that begin there, by their place in the first stream that has them.
    streams = [range(16), [*range(8), *range(24, 32)], [*range(16), *range(48, 64)]]
    members = [[] for _ in streams]

    def shifted(stream, stage):
        """Places of the channels that begin in `stream` among those of `stage`."""
        offset = {(0, 0): 0, (0, 1): 8, (0, 2): 24, (1, 1): 0, (1, 2): 16, (2, 2): 0}[(stream, stage)]
        return [place + offset for place in streams[stream]]

    def stream_member(stage, tensor, axis):
        for stream in range(stage + 1):
            members[stream].append((tensor, axis, shifted(stream, stage)))

    stream_member(0, "conv1.weight", 0)
    for part in NORM:
        stream_member(0, f"bn1.{part}", 0)
    for stage, width in enumerate([16, 32, 64]):
        for block in range(3):
            name = f"layer{stage + 1}.{block}"
            inner = [(f"{name}.conv1.weight", 0, list(range(width)))]
            inner += [(f"{name}.bn1.{part}", 0, list(range(width))) for part in NORM]
            inner += [(f"{name}.conv2.weight", 1, list(range(width)))]
            found.append(inner)
            stream_member(stage if block else max(stage - 1, 0), f"{name}.conv1.weight", 1)
            stream_member(stage, f"{name}.conv2.weight", 0)
            for part in NORM:
                stream_member(stage, f"{name}.bn2.{part}", 0)
    stream_member(2, "linear.weight", 1)
    return found + members


def move(weights, members, permutation):
    """Unit u becomes what unit permutation[u] was."""
    for tensor, axis, places in members:
        places = np.asarray(places)
        moved = np.moveaxis(weights[tensor], axis, 0)
        moved[places] = moved[places[permutation]]


def match(a, b, spec, seed):
    """The published algorithm; permutations and the number of sweeps."""
    random = np.random.default_rng(seed)
    permutations = [np.arange(len(members[0][2])) for members in spec]
    # For each axis of each tensor where its positions come from, kept up to date.
    sources = {name: [np.arange(n) for n in w.shape[:2]] for name, w in b.items()}
    for sweep in range(1, 101):
        progress = False
        for group in random.permutation(len(spec)):
            n = len(permutations[group])
            product = np.zeros((n, n), dtype=np.float32)
            for tensor, axis, places in spec[group]:
                wa, wb = a[tensor], b[tensor]
                if wb.ndim > 1:
                    other = 1 - axis
                    wb = np.take(wb, sources[tensor][other], axis=other)
                wa = np.moveaxis(wa, axis, 0)[places].reshape(n, -1)
                wb = np.moveaxis(wb, axis, 0)[places].reshape(n, -1)
                product += wa @ wb.T
            rows, columns = linear_sum_assignment(product, maximize=True)
            old = product[np.arange(n), permutations[group]].sum()
            new = product[rows, columns].sum()
            if new > old + 1e-12:
                progress = True
                permutations[group] = columns
                for tensor, axis, places in spec[group]:
                    places = np.asarray(places)
                    sources[tensor][axis][places] = places[columns]
        if not progress:
            break
    return permutations, sweep


def distance(a, b):
    return float(sum(((a[name].astype(np.float64) - b[name]) ** 2).sum() for name in a))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the example align_speed")
    parser.add_argument("checkpoint", help="resnet20-12fca82f.th")
    parser.add_argument("-n", type=int, default=9, help="runs of each")
    parser.add_argument("--noise", type=float, default=0.5, help="of every tensor, in its standard deviation")
    parser.add_argument("--start", default="identity", help="of ours; SciPy's is the identity")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    stored = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    a = {name.removeprefix("module."): tensor.numpy() for name, tensor in stored.items()}
    a = {name: np.ascontiguousarray(w, dtype=np.float32) for name, w in a.items() if w.ndim}
    random = np.random.default_rng(arguments.seed)
    scale = {name: arguments.noise * w.std() for name, w in a.items()}
    b = {n: (w + scale[n] * random.standard_normal(w.shape)).astype(np.float32) for n, w in a.items()}
    for name in b:
        if name.endswith("running_var"):
            b[name] = np.abs(b[name])
    spec = groups()
    unpermuted = distance(a, b)
    for members in spec:
        move(b, members, random.permutation(len(members[0][2])))

    theirs, ours, their_sweeps, our_sweeps = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("a.safetensors", "b.safetensors")]
        for path, weights in zip(paths, (a, b)):
            save_file(weights, path)
        for turn in range(arguments.n):
            times = []
            for search in range(SEARCHES + 1):
                start = time.perf_counter()
                permutations, sweeps = match(a, b, spec, turn * SEARCHES + search)
                times.append(time.perf_counter() - start)
                their_sweeps.append(sweeps)
            theirs.append(statistics.median(times[1:]))
            command = [arguments.program, *paths, str(SEARCHES), arguments.start, str(turn * SEARCHES)]
            output = subprocess.run(command, check=True, capture_output=True)
            report = json.loads(output.stdout)
            ours.append(statistics.median(report["seconds"]))
            our_sweeps += report["sweeps"]
    aligned = {name: w.copy() for name, w in b.items()}
    for members, permutation in zip(spec, permutations):
        move(aligned, members, permutation)
    medians = [statistics.median(times) for times in (theirs, ours)]
    print(json.dumps({
        "scipy_seconds": theirs,
        "weightspace_seconds": ours,
        "median_scipy_seconds": medians[0],
        "median_weightspace_seconds": medians[1],
        "ratio": medians[0] / medians[1],
        "mean_scipy_sweeps": statistics.mean(their_sweeps),
        "mean_weightspace_sweeps": statistics.mean(our_sweeps),
        "distance_before": distance(a, b),
        "distance_scipy": distance(a, aligned),
        "distance_weightspace": report["distance"],
        "distance_of_the_noise": unpermuted,
    }, indent=2))


if __name__ == "__main__":
    main()
