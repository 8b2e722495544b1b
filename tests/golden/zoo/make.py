#!/usr/bin/env python3
"""Writes the small zoo beside this script: `python make.py` with torch installed. Its files are laid out
as those of the published model zoos: folders as Ray Tune names them, state dicts of torch.save without
an extension, metrics as lines of Python's JSON, and other files that are no models. Weights are multiples of
1/8, which the tests compute again: element i of tensor t of model m at epoch e is ((i + 3 t + 5 m + 7 e) mod 33 - 16) / 8."""

import collections
import json
import pathlib
import shutil

import torch

HERE = pathlib.Path(__file__).parent / "published"
# Names and shapes of a multi-layer perceptron with one hidden layer, as the published code numbers its modules.
SHAPES = [("0.weight", (3, 4)), ("0.bias", (3,)), ("2.weight", (2, 3)), ("2.bias", (2,))]
EPOCHS = [0, 1, 3]


def weights(model, epoch):
    tensors = collections.OrderedDict()
    for t, (name, shape) in enumerate(SHAPES):
        index = torch.arange(torch.Size(shape).numel())
        tensors[name] = (((index + 3 * t + 5 * model + 7 * epoch) % 33 - 16) / 8).float().reshape(shape)
    return tensors


def params(model):
    return {
        "model::type": "mlp:4-3-2", "model::channels_in": 1, "model::o_dim": 2, "model::nlin": ["tanh", "relu"][model % 2],
        "model::dropout": 0, "model::init_type": "kaiming_uniform", "model::use_bias": False,
        "model::h_dim": [3], "optim::optimizer": "sgd", "optim::lr": 0.001, "optim::wd": 0.0, "optim::momentum": 0.9,
        "seed": model + 1, "training::batchsize": 10, "training::epochs_train": 3, "training::checkpoint_dir": None,
        "cuda": False, "dataset::dump": "/zoos/dataset.pt",
    }


def result(model, epoch):
    line = {
        "train_loss": 2.5 / (epoch + 1), "train_acc": 0.25 * epoch, "test_loss": 2.75 / (epoch + 1),
        "test_acc": 0.2 * epoch + 0.01 * model, "done": epoch == 3, "training_iteration": epoch,
        "trial_id": f"abcde_{model:05}", "config": params(model),
    }
    if epoch == 0:
        line.update(train_loss=-999, train_acc=-999)
    if model == 2:
        line.update(val_loss=float("nan"), val_acc=0.125 * epoch, test_loss=float("inf") if epoch == 3 else 1.5)
    return line


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    for model in range(3):
        folder = HERE / f"NN_tune_trainable_abcde_{model:05}_{model}_seed={model + 1}_2021-07-12_12-44-4{model}"
        for epoch in EPOCHS:
            # Older versions of Ray wrote numbers without zeros in front.
            checkpoint = folder / (f"checkpoint_{epoch}" if model == 1 else f"checkpoint_{epoch:06}")
            checkpoint.mkdir(parents=True)
            torch.save(weights(model, epoch), checkpoint / "checkpoints", _use_new_zipfile_serialization=model != 1)
        (folder / "checkpoint_000000" / "optimizer").parent.mkdir(exist_ok=True)
        torch.save({"state": {}, "param_groups": []}, folder / "checkpoint_000000" / "optimizer")
        (folder / "params.json").write_text(json.dumps(params(model), indent=2))
        lines = [json.dumps(result(model, epoch)) for epoch in range(4)]
        (folder / "result.json").write_text("\n".join(lines) + "\n")
        (folder / "progress.csv").write_text("train_loss\n")
    (HERE / "config.json").write_text("{}")
    (HERE / "readme.md").write_text("")


if __name__ == "__main__":
    main()
