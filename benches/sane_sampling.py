#!/usr/bin/env python3
"""Networks sampled from a zoo beside networks trained from scratch, epoch by epoch: prints one JSON line per row, then a
Markdown table of mean test accuracies (%).

    python sane_sampling.py weightspace SANE ZOO OUT --data mnist [--count 5] [--epochs 0 1 5 25]
        [--init-options "..."] [--train-options "..."] [--sample-options "..."] [--eval-options "..."]

Prompts are the best 30 % of the zoo. Samples are chosen by the zoo's held-out training images, if at all; test images are
read once per network and epoch. Training goes on with a new optimiser after each of the epochs.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

TOKEN, PROMPT, JOINT = (["--noise", kind] for kind in ("token", "prompt", "joint"))
METHODS = {
    "KDE30": ["--method", "kde", *JOINT],
    "SUB": ["--method", "subsample", *JOINT],
    "BOOT": ["--method", "bootstrap", *JOINT],
    "GAUSS": ["--method", "gaussian", *JOINT],
}


def run(*command):
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout


def accuracy(options, model):
    words = ["--data", options.data, "--json", *options.eval_options]
    return 100 * json.loads(run(options.program, "eval", model, *words))["accuracy"]


def starts(options):
    """Checkpoints to begin with, and what is known of them."""
    for name, words in METHODS.items():
        folder = options.out / name
        if not (folder / "samples.json").exists():
            words = [*words, "-n", options.count, "-o", folder, "-f", "--threads", options.threads]
            run(options.program, "sane", "sample", options.model, options.zoo, *words, *options.sample_options)
        known = json.loads((folder / "samples.json").read_text())
        files = [folder / sample["name"] for sample in known["samples"]]
        yield name, files, {"ensemble": 100 * known["ensemble_test_accuracy"]}
    prompts = [prompt["name"].rsplit(":", 1) for prompt in known["prompts"]][: options.count]
    folder = options.out / "prompts"
    folder.mkdir(exist_ok=True)
    files = []
    for index, (name, epoch) in enumerate(prompts):
        files.append(folder / f"prompt-{index}.safetensors")
        words = ["zoo", "show", options.zoo, name, "--epoch", epoch, "-o", files[-1], "-f"]
        run(options.program, *words)
    yield "prompts", files, {}
    yield "scratch", [None] * options.count, {}


def trained(options, name, index, start):
    """Test accuracies of one network after each of the epochs."""
    found, model = [], start
    for before, epoch in zip([0, *options.epochs], options.epochs):
        folder = options.out / "trained" / f"{name}-{index}-{epoch}"
        if epoch > 0:
            first = ["--init", model] if model else options.init_options
            words = ["--data", options.data, "--epochs", epoch - before, "--evaluate-every", 1000]
            if not (folder / "model.safetensors").exists():
                run(
                    options.program, "train", *first, *words, *options.train_options, "--seed", 100 * index + epoch,
                    "--threads", options.threads, "--quiet", "-f", "-o", folder,
                )  # fmt: skip
            model = folder / "model.safetensors"
        found.append(accuracy(options, model) if model else None)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("zoo", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--epochs", type=int, nargs="+", default=[0, 1, 5, 25])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", nargs="*", help="[default: all]")
    options_of = {
        "--init-options": "--arch zoo-cnn:tanh --initialisation kaiming-uniform",
        "--train-options": "--holdout 50000 --batch 10 --optimizer adam --learning-rate 1e-3 --schedule constant",
        "--sample-options": "",
        "--eval-options": "",
    }
    for flag, default in options_of.items():
        parser.add_argument(flag, type=str.split, default=default.split())
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, files, more in starts(options):
        if options.rows and name not in options.rows:
            continue
        found = [trained(options, name, index, file) for index, file in enumerate(files)]
        columns = [[value for value in column if value is not None] for column in zip(*found)]
        row = {"row": name, "n": len(files), "epochs": options.epochs, "accuracies": columns, **more}
        print(json.dumps(row), flush=True)
        rows.append(row)
    print("\n| | " + " | ".join(f"epoch {epoch}" for epoch in options.epochs) + " | together, epoch 0 |")
    print("|---" * (len(options.epochs) + 2) + "|")
    for row in rows:
        cells = []
        for column in row["accuracies"]:
            spread = statistics.stdev(column) if len(column) > 1 else 0.0
            cells.append(f"{statistics.mean(column):.1f} ± {spread:.1f}" if column else "")
        together = f"{row['ensemble']:.1f}" if "ensemble" in row else ""
        print(f"| {row['row']} | " + " | ".join(cells) + f" | {together} |")


if __name__ == "__main__":
    main()
