#!/usr/bin/env python3
"""Fine-tunes of one network on shifted data, as differences of a few hundred bytes, beside fine-tuning of all
weights: prints one JSON line per run, then a Markdown table.

    python benches/subspace_delta.py weightspace resnet20-12fca82f.th OUT [--shifts ..] [--jobs 2]

The learning rate of every row is the one that does best on held-out training images, of those tried; the test
images are looked at once per run, by the program, at its end. Finished runs are not made again.
"""

import argparse
import concurrent.futures
import itertools
import json
import pathlib
import subprocess

SHIFTS = ["gaussian-noise:3", "contrast:5", "pixelate:5"]
# Name, options, learning rates.
ROWS = [
    ("k = 500, norms of the base", ["--k", "500", "--norms", "base"], [3e-4, 1e-3]),
    ("k = 500", ["--k", "500"], [3e-4, 1e-3]),
    ("k = 5,000", ["--k", "5000"], [3e-4, 1e-3]),
    ("all weights", None, [3e-3, 1e-2]),
]
SUBSPACE = ["--method", "subspace", "--optimizer", "adam", "--schedule", "cosine"]
DENSE = ["--optimizer", "sgd", "--momentum", "0.9", "--nesterov", "--schedule", "cosine"]


def run(options, shift, row, rate):
    name, method, _ = row
    data = f"cifar10+{shift}"
    label = "".join(c if c.isalnum() else "-" for c in f"{shift}-{name}-{rate}")
    folder = options.out / label
    model = ["--init", options.model] if method is None else ["--base", options.model]
    command = [
        options.program, "train", "--quiet", "--arch", "resnet20", "--data", data,
        "--holdout", "5000", "--epochs", str(options.epochs), "--batch", "128",
        "--augment", "crop4-flip", "--learning-rate", str(rate), "--threads", "1",
        *(DENSE if method is None else SUBSPACE + method), *model, "-o", str(folder),
    ]  # fmt: skip
    if not (folder / "model.safetensors").exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if line["split"] == "held-out"][-1]["accuracy"]
    file = folder / ("model.safetensors" if method is None else "model.wsp")
    found = {"shift": shift, "row": name, "learning_rate": rate, "held_out": held_out}
    found |= {"test": lines[-1]["accuracy"], "bytes": file.stat().st_size}
    found |= {"epochs": options.epochs, "seconds": lines[-1]["seconds"]}
    print(json.dumps(found), flush=True)
    return found


def before(options, shift):
    command = [options.program, "eval", options.model, "--data", f"cifar10+{shift}", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["accuracy"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shifts", nargs="*", default=SHIFTS)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cases = [
        (shift, row, rate)
        for shift, row in itertools.product(options.shifts, ROWS)
        for rate in row[2]
    ]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda case: run(options, *case), cases))
    print("\n| shift | before | " + " | ".join(row[0] for row in ROWS) + " |")
    print("|---" * (len(ROWS) + 2) + "|")
    for shift in options.shifts:
        cells = []
        for name, *_ in ROWS:
            own = [f for f in found if f["shift"] == shift and f["row"] == name]
            best = max(own, key=lambda f: f["held_out"])
            cells.append(f"{100 * best['test']:.2f}, {best['bytes']:,} B")
        print(f"| {shift} | {100 * before(options, shift):.2f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
