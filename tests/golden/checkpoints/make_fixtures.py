#!/usr/bin/env python3
"""Writes the small checkpoints beside this script: `python make_fixtures.py` with torch, numpy and
safetensors installed. The tests compare them with the values that are computed here: every element
is its index times 0.5 (or the index itself in integers) unless said otherwise."""

import collections
import pathlib
import pickle

import numpy as np
import safetensors.torch
import torch

HERE = pathlib.Path(__file__).parent
DTYPES = ["float32", "float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64"]


def halves(*shape, dtype=torch.float32):
    count = int(np.prod(shape))
    return (torch.arange(count, dtype=torch.float64) * 0.5).to(dtype).reshape(shape)


def every_dtype(more=()):
    tensors = {}
    for name in [*DTYPES, *more]:
        dtype = getattr(torch, name)
        tensors[name] = halves(2, 3, dtype=dtype) if dtype.is_floating_point else torch.arange(6).to(dtype)
    tensors["bool"] = torch.tensor([True, False, True])
    tensors["scalar"] = torch.tensor(7.5)
    tensors["empty"] = torch.zeros(0, 4)
    return tensors


def views():
    """Transposed, sliced, shared and broadcast tensors of one storage."""
    base = halves(4, 6)
    return collections.OrderedDict(
        base=base,
        transposed=base.t(),
        sliced=base[1:3, ::2],
        tied=base,
        expanded=base[0, 1:2].expand(3, 1),
        channels_last=halves(1, 2, 2, 3).to(memory_format=torch.channels_last),
    )


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)
        self.register_buffer("kept", halves(2))
        self.register_buffer("scratch", halves(3), persistent=False)
        with torch.no_grad():
            self.fc.weight.copy_(halves(2, 3))
            self.fc.bias.copy_(halves(2))


def training_checkpoint():
    model = torch.nn.Sequential(collections.OrderedDict(conv=torch.nn.Conv2d(1, 2, 3)))
    with torch.no_grad():
        model.conv.weight.copy_(halves(2, 1, 3, 3))
        model.conv.bias.copy_(halves(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 1, 3, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model.conv.weight.copy_(halves(2, 1, 3, 3))
        model.conv.bias.copy_(halves(2))
    wrapped = {"module._orig_mod." + name: t for name, t in model.state_dict().items()}
    return {
        "epoch": 3,
        "best_prec1": 91.25,
        "arch": "conv",
        "accuracy": np.float64(0.5),
        "optimizer": optimizer.state_dict(),
        "state_dict": collections.OrderedDict(wrapped),
    }


class Python2(pickle._Pickler):
    """Writes strings as Python 2 did, as bytes, and an OrderedDict as a call with its pairs."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str(self, text):
        data = text.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)

    def reducer_override(self, value):
        if type(value) is collections.OrderedDict:
            return collections.OrderedDict, ([[k, v] for k, v in value.items()],)
        return NotImplemented

    dispatch[str] = save_str


def main():
    # Legacy files of whole modules hold the sources of their classes, with paths.
    torch.serialization.get_source_lines_and_file = lambda *_: (["class ...:"], 1, "net.py")

    def save(name, value, **options):
        torch.save(value, HERE / name, **options)

    save("dtypes.pt", every_dtype(["uint16", "uint32", "uint64"]))
    save("dtypes-legacy.pth", every_dtype(), _use_new_zipfile_serialization=False)
    save("protocol4-legacy.pth", views(), _use_new_zipfile_serialization=False, pickle_protocol=4)
    save("views.pt", views())
    save("training.pt", training_checkpoint())
    save("training-legacy.th", training_checkpoint(), _use_new_zipfile_serialization=False)
    save("module.pt", Net())
    save("module-legacy.pth", Net(), _use_new_zipfile_serialization=False)
    save("module-protocol5.pt", {"net": Net(), "epoch": 1}, pickle_protocol=5)
    save("parameters.pt", {"weight": torch.nn.Parameter(halves(2, 2))})
    save("sparse.pt", {"weight": halves(2, 2).to_sparse()})

    python2 = type("python2", (), {"Pickler": Python2, "__name__": "pickle", "dump": staticmethod(
        lambda value, file, protocol=2: Python2(file, protocol).dump(value))})
    save("python2-legacy.pth", collections.OrderedDict(weight=halves(2, 3), bias=halves(2)),
         _use_new_zipfile_serialization=False, pickle_module=python2)

    arrays = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3) * 0.5,
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3) * 0.5),
        "big.endian": np.arange(4, dtype=">i4"),
        "half": np.arange(4, dtype=np.float16) * 0.5,
        "flags": np.array([True, False]),
        "scalar": np.float32(7.5),
        "empty": np.zeros((0, 3), np.uint16),
        "zeros": np.zeros((64, 64), np.float32),
    }
    np.savez(HERE / "arrays.npz", **{k: v for k, v in arrays.items() if k != "zeros"})
    np.savez_compressed(HERE / "compressed.npz", **arrays)
    np.save(HERE / "fortran.npy", arrays["fortran"])

    tensors = every_dtype(["uint16", "uint32", "uint64"])
    safetensors.torch.save_file(tensors, HERE / "dtypes.safetensors", {"format": "pt", "by": "torch"})


if __name__ == "__main__":
    main()
