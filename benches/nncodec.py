#!/usr/bin/env python3
"""NNCodec's side of the compression comparison: bytes against accuracy, as CSV.

Encodes a checkpoint with NNCodec (ISO/IEC 15938-17) at several qp, decodes the bytes again, and
counts the accuracy of what came back on all CIFAR-10 test images.

A method is written as in the reference table, for instance `dq1_bnf_nw48_optqp+bncorr`:
  dq0 | dq1   uniform or dependent (trellis-coded) quantisation
  bn0 | bnf   batch norms stored as they are, or folded into a scale and a bias per filter
  nwN         qp -N for everything that is not a weight
  _optqp      NNCodec's own choice of a qp per tensor
  +bncorr     the running means are corrected for the quantisation error before encoding
"""

import argparse
import csv
import datetime
import os
import re
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytorch_eval

if __name__ == "__main__":
    pytorch_eval.tune_allocator()
    # This file has the package's name: the import below must not find it.
    sys.path.pop(0)

import numpy as np
import torch
from nncodec import nnc

METHOD = re.compile(r"dq([01])_bn([0f])_nw(\d+)(_optqp)?(\+bncorr)?")
METHODS = [
    "dq1_bnf_nw48",
    "dq1_bnf_nw48+bncorr",
    "dq1_bnf_nw48_optqp",
    "dq1_bnf_nw48_optqp+bncorr",
]
QPS = [-36, -32, -28, -26, -24, -22, -20, -18, -16, -12]
COLUMNS = "model method setting bytes acc_10k encode_s decode_s rel_weight_err job".split()
NORM_TYPES = {
    "weight": "bn.gamma",
    "bias": "bn.beta",
    "running_mean": "bn.mean",
    "running_var": "bn.var",
}
EPSILON = 1e-5


def parameter_types(parameters):
    """NNCodec's description of the network: each batch norm belongs to its convolution's block."""
    types, blocks = {}, {}
    for name, values in parameters.items():
        module, leaf = name.rsplit(".", 1)
        if values.ndim > 1:
            types[name] = "weight"
        else:
            types[name] = "bias" if module == "linear" else NORM_TYPES[leaf]
        blocks[name] = re.sub(r"bn(\d)$", r"conv\1", module)
    return {"parameter_type": types, "block_identifier": blocks}


def settings(method, qp):
    """The keyword arguments of nnc.compress that a method's name stands for."""
    dependent, fold, nonweight, optimize, _ = METHOD.fullmatch(method).groups()
    return {
        "qp": qp,
        "nonweight_qp": -int(nonweight),
        "use_dq": dependent == "1",
        "bnf": fold == "f",
        "opt_qp": optimize is not None,
        "row_skipping": True,
        "bitstream_path": None,
    }


def compress(parameters, options, **more):
    if options["bnf"]:
        more["block_id_and_param_type"] = parameter_types(parameters)
    # nnc.compress folds batch norms in place: it gets a dictionary of its own.
    return nnc.compress(dict(parameters), **options, **more)


def network_of(model, parameters):
    """The network with NNCodec's decoded parameters; folded ones become plain scales and biases."""
    state = {}
    for name, values in parameters.items():
        values = torch.from_numpy(np.array(values))
        norm = re.sub(r"conv(\d)\.weight", r"bn\1", name)
        if name.endswith(".weight.bias"):
            norm = norm.removesuffix(".bias")
            state[f"{norm}.bias"] = values
            state[f"{norm}.running_mean"] = torch.zeros_like(values)
            state[f"{norm}.running_var"] = torch.full_like(values, 1 - EPSILON)
        elif name.endswith(".weight_scaling"):
            state[norm.removesuffix("_scaling") + ".weight"] = values
        else:
            state[name] = values
    return pytorch_eval.build(model, state)


@torch.inference_mode()
def norm_input_means(network, images, wanted=None):
    """The mean per channel of each batch norm's input, by name.

    With `wanted` means, each batch norm's running mean first moves by what its input's mean
    differs from the wanted one. A norm comes before the layers it feeds, so one pass corrects
    them in sequence.
    """
    means = {}

    def hook(name):
        def before(norm, inputs):
            means[name] = inputs[0].mean((0, 2, 3))
            if wanted is not None:
                norm.running_mean += means[name] - wanted[name]

        return before

    norms = [(n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(hook(name)) for name, norm in norms]
    network(images)
    for handle in handles:
        handle.remove()
    return means


def corrected(model, parameters, options, images):
    """The parameters with running means that make up for the quantisation of the weights."""
    quantised = compress(parameters, options | {"bnf": False}, quantize_only=True)
    weights = {name: quantised[name] for name in parameters if parameters[name].ndim > 1}
    wanted = norm_input_means(network_of(model, parameters), images)
    network = network_of(model, parameters | weights)
    norm_input_means(network, images, wanted)
    state = network.state_dict()
    return {
        name: state[name].numpy() if name.endswith("running_mean") else values
        for name, values in parameters.items()
    }


def relative_error(parameters, decoded):
    """Squared error of all convolutions, scaled by their batch norms, relative to their energy."""
    error = energy = 0.0
    for name, weight in parameters.items():
        if weight.ndim == 4:
            norm = re.sub(r"conv(\d)\.weight$", r"bn\1", name)
            variance = parameters[f"{norm}.running_var"].astype(np.float64) + EPSILON
            scale = (parameters[f"{norm}.weight"] / np.sqrt(variance)).reshape(-1, 1, 1, 1)
            error += np.square((weight - decoded[name]) * scale).sum()
            energy += np.square(weight * scale).sum()
    return error / energy


def median_seconds(function, repeats):
    """What the function returns, and the median of its times."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def measure(model, method, qp, parameters, data, repeats):
    """One row of the table. The time of a correction counts as encoding."""
    options = settings(method, qp)
    calibration, batches = data

    def encode():
        inputs = parameters
        if method.endswith("+bncorr"):
            inputs = corrected(model, parameters, options, calibration)
        return compress(inputs, options, return_bitstream=True)

    bitstream, encode_seconds = median_seconds(encode, repeats)
    decoded, decode_seconds = median_seconds(lambda: nnc.decompress(bitstream), repeats)
    network = network_of(model, decoded).to(memory_format=torch.channels_last)
    total = sum(len(labels) for _, labels in batches)
    accuracy = pytorch_eval.count_correct(network, batches) / total
    return {
        "model": model,
        "method": f"NNCodec {method}",
        "setting": f"qp{qp}",
        "bytes": len(bitstream),
        "acc_10k": f"{100 * accuracy:.2f}",
        "encode_s": f"{encode_seconds:.4f}",
        "decode_s": f"{decode_seconds:.4f}",
        "rel_weight_err": f"{relative_error(parameters, decoded):.3e}",
        "job": f"nnc_{model}_{method}_qp{-qp:02}",
    }


def machine(repeats):
    """The comment line of the table: when, where and with what it was measured."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("nncodec", "torch", "numpy"))
    today = datetime.date.today().isoformat()
    processor = f"{pytorch_eval.processor()}, {os.cpu_count()} cores"
    return (
        f"# {today}; {processor}; {packages}; {torch.get_num_threads()} threads; "
        f"times are medians of {repeats}"
    )


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", choices=pytorch_eval.CHECKPOINTS)
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file to write")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("WEIGHTSPACE_DATA"),
        help="folder with cifar-10-batches-bin/ and resnets/ (default: WEIGHTSPACE_DATA)",
    )
    parser.add_argument(
        "--method", action="append", help=f"may be repeated (default: {' '.join(METHODS)})"
    )
    parser.add_argument("--qp", type=int, nargs="+", default=QPS, help=f"default: {QPS}")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (default 3)")
    parser.add_argument(
        "--calibration", type=int, default=512, help="training images for +bncorr (default 512)"
    )
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    arguments = parser.parse_args()
    arguments.method = arguments.method or METHODS
    if arguments.data_dir is None:
        parser.error("give --data-dir or set WEIGHTSPACE_DATA")
    for method in arguments.method:
        if not METHOD.fullmatch(method):
            parser.error(f"method {method!r} is not of the form dq1_bnf_nw48[_optqp][+bncorr]")
    if min(arguments.repeats, arguments.calibration, arguments.threads) < 1:
        parser.error("--repeats, --calibration and --threads must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    cifar = arguments.data_dir / "cifar-10-batches-bin"
    calibration, _ = pytorch_eval.load_cifar10(cifar / "data_batch_1.bin", arguments.calibration)
    images, labels = pytorch_eval.load_cifar10(cifar / "test_batch.bin")
    images = images.contiguous(memory_format=torch.channels_last)
    data = (calibration, list(zip(images.split(256), labels.split(256))))

    with arguments.output.open("w", newline="") as file:
        print(machine(arguments.repeats), file=file)
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for model in arguments.models:
            checkpoint = arguments.data_dir / "resnets" / pytorch_eval.CHECKPOINTS[model]
            state = pytorch_eval.load_checkpoint(checkpoint)
            parameters = {name: values.numpy() for name, values in state.items() if values.ndim > 0}
            for method in arguments.method:
                for qp in arguments.qp:
                    row = measure(model, method, qp, parameters, data, arguments.repeats)
                    table.writerow(row)
                    file.flush()
                    print(*row.values(), file=sys.stderr)


if __name__ == "__main__":
    main()
