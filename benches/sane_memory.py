#!/usr/bin/env python3
"""Peak memory of pretraining on many large checkpoints: writes N noisy copies of a checkpoint as a zoo's tree, and trains on
it for one pass. Prints one JSON line.

    python sane_memory.py weightspace resnet18.safetensors OUT [--models 100] [--noise 0.1]

The copies take N times the checkpoint's bytes on disk; OUT/zoo may be deleted afterwards.
"""

import argparse
import json
import pathlib
import subprocess

import numpy
import safetensors.numpy


def write_zoo(options, folder):
    known = safetensors.numpy.load_file(options.checkpoint)
    floats = {name: value for name, value in known.items() if value.dtype == numpy.float32}
    for index in range(options.models):
        model = folder / f"NN_tune_trainable_{index:05}_seed={index}"
        where = model / "checkpoint_000001"
        if (where / "checkpoints.safetensors").exists():
            continue
        where.mkdir(parents=True, exist_ok=True)
        random = numpy.random.default_rng(index)
        noisy = {
            name: value + options.noise * value.std() * random.standard_normal(value.shape, dtype=numpy.float32)
            for name, value in floats.items()
        }
        (model / "params.json").write_text(json.dumps({"seed": index}))
        metrics = {"training_iteration": 1, "test_loss": 1.0, "test_acc": 0.5}
        (model / "result.json").write_text(json.dumps(metrics) + "\n")
        safetensors.numpy.save_file({**known, **noisy}, where / "checkpoints.safetensors")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.1)
    options = parser.parse_args()
    write_zoo(options, options.out / "zoo")
    command = [
        options.program, "sane", "pretrain", options.out / "zoo", "--preset", "resnet18", "--epochs", 1,
        "-o", options.out / "sane", "-f", "--quiet", "--json",
    ]  # fmt: skip
    words = [str(word) for word in command]
    found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    size = options.checkpoint.stat().st_size
    keys = ["peak_memory_bytes", "seconds", "parameters", "training_samples", "arch"]
    print(json.dumps({"models": options.models, "checkpoint_bytes": size} | {key: found[key] for key in keys}))


if __name__ == "__main__":
    main()
