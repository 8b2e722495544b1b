#!/usr/bin/env python3
"""Accuracy of every basis at equal numbers of coefficients: trains networks with `weightspace train
--method subspace` and prints one JSON line per run, then a Markdown table.

    python benches/subspace_table.py lenet-mnist weightspace OUT [--bases ..] [--k ..] [--seeds 3] [--jobs 2]

For every basis and k the learning rate is the one of --learning-rates that does best on held-out training
images with the first seed; test images are looked at once per run, by the program, at its end. A run whose
folder is finished is not made again.
"""

import argparse
import concurrent.futures
import itertools
import json
import pathlib
import statistics
import subprocess

BASES = ["dense", "hadamard", "sketch", "hash"]
# Data, held-out images, epochs, batch, other options, numbers of coefficients, learning rates.
WORKS = {
    "lenet-mnist": ("lenet-mnist", "mnist", 5000, 8, 128, [], [290, 1000, 5500], [1e-3, 2e-3, 4e-3]),
    "lenet-cifar10": (
        "lenet-cifar", "cifar10", 5000, 20, 128, ["--augment", "crop4-flip"],
        [1000, 5000, 10_000], [1e-3, 2e-3],
    ),
    "resnet20-cifar10": (
        "resnet20", "cifar10", 5000, 40, 128, ["--augment", "crop4-flip"],
        [1000, 10_000], [2e-3],
    ),
}  # fmt: skip


def run(options, basis, k, rate, seed):
    arch, data, held_out, epochs, batch, more, _, _ = WORKS[options.work]
    epochs = options.epochs or epochs
    folder = options.out / f"{options.work}-{basis}-{k}-{rate}-{epochs}-{seed}"
    method = [] if basis == "all" else ["--method", "subspace", "--basis", basis, "--k", str(k)]
    command = [
        options.program, "train", "--quiet", "--arch", arch, "--data", data,
        "--holdout", str(held_out), "--epochs", str(epochs), "--batch", str(batch),
        "--optimizer", "adam", "--learning-rate", str(rate), "--schedule", "cosine",
        "--seed", str(seed), "--threads", str(options.threads), *more, *method, "-o", str(folder),
    ]  # fmt: skip
    if not (folder / "model.safetensors").exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if line["split"] == "held-out"][-1]
    file = folder / "model.wsp"
    row = {"work": options.work, "basis": basis, "k": k, "learning_rate": rate, "seed": seed}
    row |= {"epochs": epochs, "held_out": held_out["accuracy"], "test": lines[-1]["accuracy"]}
    row |= {"bytes": file.stat().st_size if file.exists() else None, "seconds": lines[-1]["seconds"]}
    print(json.dumps(row), flush=True)
    return row


def all_seeds(options, basis, k):
    first = [run(options, basis, k, rate, 0) for rate in options.learning_rates]
    best = max(first, key=lambda row: row["held_out"])
    rate = best["learning_rate"]
    return [best] + [run(options, basis, k, rate, seed) for seed in range(1, options.seeds)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("program")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--bases", nargs="*", default=BASES)
    parser.add_argument("--k", nargs="*", type=int)
    parser.add_argument("--learning-rates", nargs="*", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    *_, coefficients, rates = WORKS[options.work]
    options.learning_rates = options.learning_rates or rates
    options.out.mkdir(parents=True, exist_ok=True)
    cases = list(itertools.product(options.k or coefficients, options.bases))
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda case: all_seeds(options, case[1], case[0]), cases))
    print("\n| k | basis | learning rate | test accuracy, n seeds | bytes |\n|---|---|---|---|---|")
    for (k, basis), rows in zip(cases, results):
        tests = [100 * row["test"] for row in rows]
        spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
        accuracy = f"{statistics.mean(tests):.2f}{spread}, {len(tests)}"
        sizes = [row["bytes"] for row in rows if row["bytes"]]
        size = f"{statistics.mean(sizes):,.0f}" if sizes else "-"
        print(f"| {k} | {basis} | {rows[0]['learning_rate']:g} | {accuracy} | {size} |")


if __name__ == "__main__":
    main()
