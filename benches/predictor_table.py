#!/usr/bin/env python3
"""Predictors of ResNet-20 with the published recipe, phase by phase: prints one JSON line per file, then a
Markdown table beside the published figures.

    python predictor_table.py weightspace resnet20-12fca82f.th OUT [--widths 120 140 180 300] [--seeds 1]
        [--phases reconstruction distillation noise] [--teacher resnet56-4bfd9763.th] [--epochs 20]

Reconstruction: 68,600 steps of Ranger, 4,096 rows each, in-filter order, 240 inputs (or another --preset). Distillation: of that predictor,
from the original's logits (or a teacher's) on CIFAR-10, or on noise. Weights of predictors have 16 bits, so that rounding
plays no part. Test images are looked at once per file. What is finished is not made again, what was interrupted goes on.
"""

import argparse
import json
import pathlib
import subprocess

# Test accuracy in the paper (option-B network, original 91.69).
PUBLISHED = {
    ("reconstruction", 120): 75.75, ("reconstruction", 140): 85.64, ("reconstruction", 180): 90.03,
    ("reconstruction", 300): 91.79, ("distillation", 120): 90.75, ("distillation", 140): 91.34,
    ("distillation", 180): 91.75, ("noise", 140): 87.25,
}  # fmt: skip
DISTILLED = {"distillation": [120, 140, 180], "noise": [140]}


def run(*command):
    words = [str(word) for word in command]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def reconstruct(options, width, seed):
    """The file of a reconstruction, and what is known about it."""
    preset = "" if options.preset == "paper-h140" else f"-{options.preset}"
    name = options.out / f"reconstruction{preset}-{width}-{seed}"
    file, report = name.with_suffix(".wsp"), name.with_suffix(".json")
    if not report.exists():
        found = run(
            options.program, "compress", options.model, "-o", file, "-f", "--json", "--quiet",
            "--method", "predictor", "--preset", options.preset, "--width", width,
            "--distill-epochs", 0, "--seed", seed, "--predictor-bits", 16,
            "--threads", options.threads, "--work", name.with_suffix(".work"),
            *(["--steps", options.steps] if options.steps else []),
        )  # fmt: skip
        report.write_text(json.dumps(found))
    found = json.loads(report.read_text())
    return file, {"rmse": found["predictor"]["rmse"], "seconds": found["seconds"]}


def distil(options, file, phase, width, seed):
    preset = "" if options.preset == "paper-h140" else f"-{options.preset}"
    folder = options.out / f"{phase}{preset}-{width}-{seed}-{options.epochs}"
    teacher = ["--teacher", options.teacher] if options.teacher else []
    command = [
        options.program, "train", "--quiet", "--method", "predictor", "--init", options.model,
        "--predictor", file, "--data", "cifar10", "--holdout", "5000", "--epochs", options.epochs,
        "--learning-rate", options.learning_rate, "--schedule", "cosine", "--predictor-bits", 16,
        "--threads", options.threads, "--seed", seed, "-o", folder, *teacher,
        *(["--noise-inputs"] if phase == "noise" else ["--augment", "crop4-flip"]),
    ]  # fmt: skip
    if not (folder / "model.safetensors").exists():
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return folder / "model.wsp"


def row(options, phase, width, seed, file, more):
    report = file.with_suffix(".test.json")
    if not report.exists():
        report.write_text(json.dumps(run(options.program, "eval", file, "--data", "cifar10", "--json", "--quiet")))
    accuracy = 100 * json.loads(report.read_text())["accuracy"]
    found = {"phase": phase, "width": width, "seed": seed, "accuracy": accuracy}
    found |= {"published": PUBLISHED.get((phase, width)), "bytes": file.stat().st_size} | more
    print(json.dumps(found), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--widths", nargs="*", type=int, default=[120, 140, 180, 300])
    phases = ["reconstruction", "distillation", "noise"]
    parser.add_argument("--phases", nargs="*", choices=phases, default=phases)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--preset", default="paper-h140")
    parser.add_argument("--steps", type=int, help="[default: the preset's]")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--teacher", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(options.seeds):
        for width in options.widths:
            file, more = reconstruct(options, width, seed)
            if "reconstruction" in options.phases:
                rows.append(row(options, "reconstruction", width, seed, file, more))
            for phase in ["distillation", "noise"]:
                if phase in options.phases and width in DISTILLED[phase]:
                    made = distil(options, file, phase, width, seed)
                    rows.append(row(options, phase, width, seed, made, {"epochs": options.epochs}))
    print("\n| phase | H | seed | RMSE | bytes | accuracy | published |\n|---|---|---|---|---|---|---|")
    for found in rows:
        rmse = f"{found['rmse']:.4f}" if "rmse" in found else ""
        print(
            f"| {found['phase']} | {found['width']} | {found['seed']} | {rmse} | {found['bytes']:,} | "
            f"{found['accuracy']:.2f} | {found['published'] or ''} |"
        )


if __name__ == "__main__":
    main()
