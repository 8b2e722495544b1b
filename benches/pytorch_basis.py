#!/usr/bin/env python3
"""What a pass over a pseudo-random basis costs: PyTorch (generate, multiply, discard, as PRANC does on
demand) beside `basis_time`, in turns, as ratios of medians.

    cargo build --release -p weightspace-core --example basis_time
    python benches/pytorch_basis.py target/release/examples/basis_time [--d 268346] [--k 10000] [--rounds 3]

PyTorch is tried with signs (random_ of int8, its fastest) and with uniform floats (as the paper), a block
of columns at a time that stays in the cache (the fastest of 1, 4, 16 and 64 columns).
"""

import argparse
import json
import statistics
import subprocess
import time

import torch


def generate(kind, block, seed):
    generator = torch.Generator().manual_seed(seed)
    if kind == "signs":
        # One byte gives eight signs: the least that PyTorch can generate per sign.
        count = block.numel() // 8
        packed = torch.empty(count, dtype=torch.uint8).random_(0, 256, generator=generator)
        unpacked = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        block.view(-1).copy_(unpacked.view(-1)).mul_(2).sub_(1)
    else:
        block.uniform_(-1, 1, generator=generator)


def expand(kind, d, k, columns, alpha):
    block = torch.empty(columns, d)
    theta = torch.zeros(d)
    for first in range(0, k, columns):
        generate(kind, block, first)
        theta.addmv_(block.t(), alpha[first : first + columns])
    return theta


def pullback(kind, d, k, columns, gradient):
    block = torch.empty(columns, d)
    out = torch.empty(k)
    for first in range(0, k, columns):
        generate(kind, block, first)
        out[first : first + columns] = block @ gradient
    return out


def seconds(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--d", type=int, default=268_346)
    parser.add_argument("--k", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # Blocks of whole bytes of signs.
    d, k = arguments.d - arguments.d % 8, arguments.k
    alpha, gradient = torch.randn(k), torch.randn(d)
    with torch.no_grad():
        columns = {}
        for kind in ["signs", "uniform"]:
            tried = {c: seconds(expand, kind, d, c * 4, c, alpha) for c in [1, 4, 16, 64]}
            columns[kind] = min(tried, key=lambda c: tried[c] / c)
        theirs = {(kind, work): [] for kind in columns for work in ["expand", "pullback"]}
        ours = {}
        for _ in range(arguments.rounds):
            for kind, count in columns.items():
                own = k - k % count
                theirs[kind, "expand"].append(seconds(expand, kind, d, own, count, alpha))
                theirs[kind, "pullback"].append(seconds(pullback, kind, d, own, count, gradient))
            command = [arguments.program, str(d), str(k), "9"]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for line in map(json.loads, output.splitlines()):
                for work in ["expand", "pullback"]:
                    key = line["set"], line["basis"], work
                    ours.setdefault(key, []).append(line[f"{work}_ms"] / 1e3)
    for (instructions, basis, work), own in ours.items():
        kind = "uniform" if basis == "uniform" else "signs"
        other = {kind: statistics.median(theirs[kind, work]) for kind in columns}
        row = {"set": instructions, "basis": basis, "work": work, "d": d, "k": k}
        row |= {"seconds": statistics.median(own), "rounds": arguments.rounds}
        row |= {f"pytorch_{kind}_seconds": value for kind, value in other.items()}
        row["times_faster"] = other[kind] / row["seconds"]
        row["times_faster_than_uniform"] = other["uniform"] / row["seconds"]
        print(json.dumps(row))


if __name__ == "__main__":
    main()
