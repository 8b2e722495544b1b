#!/usr/bin/env python3
"""Writes gradients that PyTorch computes in f64, beside this file. Needs torch and safetensors.

layers.json, layers.safetensors: single layers and small stacks. The JSON file lists the cases:
their name, op, settings (the arguments of PyTorch's module, where it has one) and, for batch
normalisation, whether it was training. The tensors of a case, all f32 and exact where given:
  NAME/input, NAME/param.P       given; P as in the state dict, buffers of batch norms too
  NAME/output                    the layer's value
  NAME/grad_output               given: the loss is the sum of output * grad_output
  NAME/grad_input, NAME/grad.P   gradients of that loss (no grad_input for indices)
  NAME/after.P                   running statistics after a training step, momentum 0.1
PyTorch's own f32 is everywhere within 1.1e-6 of the largest element of the tensor.

networks.json: LeNet and ResNet-20, one step in training mode on 4 images with the labels 0 to 3,
mean cross-entropy. Weights and images are no data but a formula, all in f32:
  mix(i)    the 32-bit finaliser of MurmurHash3: i ^= i >> 16; i *= 0x85ebca6b; i ^= i >> 13;
            i *= 0xc2b2ae35; i ^= i >> 16, modulo 2^32
  unit(i)   (mix(i) >> 8) * 2^-23 - 1, in [-1, 1), exact
  weights   element i of all parameters, concatenated in the order of the state dict: in a matrix
            or filter [out, ...] unit(i) * s, s being 2 / sqrt(fan-in) rounded to f32, fan-in the
            product of all dimensions but the first; in a norm's weight 1 + unit(i) / 4; in a bias
            unit(i) / 8
  images    element i of the batch: unit(first + i), first being the network's "first_image"
Of every gradient and running statistic: sum, L2 norm and up to 16 elements as [index, value].

An f32 engine must not land on the other side of a ReLU's kink than f64 did: one such pixel moves
gradients of ResNet-20 by 2e-3. So the batches are chosen: no value before a ReLU is nearer to zero
than 20 times the error that PyTorch's f32 has there. Its gradients deviate (L2 norm of the
difference over the L2 norm, the worst tensor) by 2e-6; both are printed.
"""

import json
import math
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "benches"))

from pytorch_eval import CifarResNet  # noqa: E402
from pytorch_networks import LeNet, Transformer, attention  # noqa: E402


# Of 1,500 candidates for ResNet-20, 2^31 + n * 2^14, the one that stays farthest from the kinks.
NETWORKS = (
    ("lenet-mnist", LeNet, (4, 1, 28, 28), 2**31),
    ("resnet20", lambda: CifarResNet(20), (4, 3, 32, 32), 2**31 + 1428 * 2**14),
)


class Function(nn.Module):
    """A function of the input and settings, as a module."""

    def __init__(self, function, **settings):
        super().__init__()
        self.function = function
        self.settings = settings

    def forward(self, x):
        return self.function(x, **self.settings)


class Residual(nn.Module):
    """The input plus its 3x3 convolution: both paths' gradients meet."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        return x + self.conv(x)


def sine(x, frequency):
    return torch.sin(frequency * x)


def pad_shortcut(x, stride, out_channels):
    """Option A of CIFAR ResNets: every `stride`-th row and column between channels of zeros."""
    padding = (out_channels - x.shape[1]) // 2
    return functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, padding, padding))


def function(f):
    return lambda **settings: Function(f, **settings)


OPS = {
    "conv2d": nn.Conv2d,
    "linear": nn.Linear,
    "batch_norm2d": nn.BatchNorm2d,
    "batch_norm1d": nn.BatchNorm1d,
    "group_norm": nn.GroupNorm,
    "layer_norm": nn.LayerNorm,
    "local_response_norm": nn.LocalResponseNorm,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "sine": function(sine),
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
    "flatten": nn.Flatten,
    "residual": Residual,
    "pad_shortcut": function(pad_shortcut),
    "embedding": nn.Embedding,
    "attention": function(attention),
    "transformer": Transformer,
}


def normal(*shape):
    return torch.randn(shape)


def dead_channel(*shape):
    """The first channel is zero everywhere, as behind a ReLU that never fires."""
    x = torch.randn(shape)
    x[:, 0] = 0
    return x


def shifted(*shape):
    """A mean far above the spread."""
    return torch.randn(shape) + 30


def wide(*shape):
    """Zeros, tiny values and values deep in saturation among normal ones."""
    x = 2 * torch.randn(shape)
    special = [0.0, -0.0, 1e-4, -1e-4, 6.0, -6.0, 12.0, -12.0, 40.0, -40.0, 95.0, -95.0]
    x.view(-1)[: len(special)] = torch.tensor(special)
    return x


def tied(*shape):
    """Many equal values: the gradient of a maximum goes to the first in reading order."""
    return torch.randint(0, 3, shape).float()


def conv(channels, kernel, stride, padding, shape, groups=1, bias=True):
    """One convolution: `channels` are (in, out), `shape` is (batch, height, width)."""
    inputs, outputs = channels
    name = f"conv2d_{inputs}x{outputs}_k{kernel}_s{stride}_p{padding}"
    name += f"_g{groups}" * (groups > 1) + "_bias" * bias
    settings = {
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "groups": groups,
        "bias": bias,
    }
    batch, height, width = shape
    return name, "conv2d", settings, lambda: normal(batch, inputs, height, width)


def norm_cases():
    for training in (True, False):
        mode = "train" if training else "eval"
        inputs = (("", normal), ("_dead_channel", dead_channel), ("_shifted", shifted))
        for name, draw in inputs if training else inputs[:1]:
            draw_maps = lambda draw=draw: draw(3, 5, 3, 2)
            name = f"batch_norm2d{name}_{mode}"
            yield name, "batch_norm2d", {"num_features": 5}, draw_maps, training
        settings = {"num_features": 16}
        name = f"batch_norm2d_16_{mode}"
        yield name, "batch_norm2d", settings, lambda: normal(2, 16, 3, 2), training
        settings = {"num_features": 7}
        yield f"batch_norm1d_{mode}", "batch_norm1d", settings, lambda: normal(6, 7), training
    for channels, groups in ((6, 1), (6, 2), (6, 6), (20, 4), (16, 16)):
        settings = {"num_groups": groups, "num_channels": channels}
        draw = lambda channels=channels: normal(2, channels, 2, 3)
        yield f"group_norm_{channels}_{groups}", "group_norm", settings, draw
    for width, bias in ((12, True), (12, False), (17, False)):
        settings = {"normalized_shape": width, "bias": bias}
        draw = lambda width=width: normal(2, 3, width)
        yield f"layer_norm_{width}" + "_bias" * bias, "layer_norm", settings, draw
    for size, alpha, beta, k in (
        (4, 0.001 / 9, 0.75, 1.0),
        (4, 0.8, 0.75, 1.0),
        (5, 2.0, 0.5, 2.0),
    ):
        settings = {"size": size, "alpha": alpha, "beta": beta, "k": k}
        name = f"local_response_norm_{size}_{k:g}_{alpha:.1g}"
        yield name, "local_response_norm", settings, lambda: normal(2, 9, 3, 2)


def cases():
    """(name, op, settings, input[, training]) of every case."""
    yield conv((5, 20), 1, 1, 0, (2, 3, 3))
    yield conv((32, 16), 1, 1, 0, (2, 1, 3), bias=False)
    yield conv((16, 20), 1, 2, 0, (2, 3, 4), bias=False)
    yield conv((5, 3), 2, 1, 0, (3, 4, 5))
    yield conv((6, 4), 2, 2, 1, (2, 5, 4))
    yield conv((3, 16), 3, 1, 1, (2, 4, 3), bias=False)
    yield conv((16, 3), 3, 1, 1, (2, 3, 4), bias=False)
    yield conv((16, 5), 3, 2, 1, (2, 4, 5), bias=False)
    yield conv((3, 20), 3, 1, 0, (2, 4, 4))
    yield conv((5, 6), 3, 3, 1, (2, 5, 7))
    yield conv((3, 5), 3, 1, 2, (2, 3, 4))
    yield conv((20, 3), 3, 1, 1, (1, 1, 1))
    yield conv((1, 6), 5, 1, 0, (2, 8, 9))
    yield conv((3, 5), 5, 1, 2, (2, 4, 5))
    yield conv((4, 3), 5, 2, 1, (2, 6, 7), bias=False)
    yield conv((2, 5), 7, 2, 3, (2, 6, 7), bias=False)
    yield conv((2, 3), 7, 1, 3, (2, 4, 3))
    yield conv((6, 10), 3, 1, 1, (2, 4, 3), groups=2)
    yield conv((32, 16), 1, 1, 0, (2, 1, 3), groups=2, bias=False)
    yield conv((8, 12), 3, 2, 1, (2, 4, 5), groups=4, bias=False)
    yield conv((16, 16), 3, 1, 1, (2, 3, 3), groups=16, bias=False)
    yield conv((5, 10), 3, 2, 1, (2, 5, 4), groups=5)
    yield conv((20, 20), 5, 1, 2, (2, 2, 3), groups=20, bias=False)

    for inputs, outputs, bias in ((7, 5, True), (33, 10, False), (16, 20, True)):
        settings = {"in_features": inputs, "out_features": outputs, "bias": bias}
        draw = lambda inputs=inputs: normal(5, inputs)
        yield f"linear_{inputs}x{outputs}" + "_bias" * bias, "linear", settings, draw
    yield from norm_cases()

    for op in ("relu", "gelu", "tanh", "sigmoid"):
        yield op, op, {}, lambda: wide(3, 29)
    for frequency in (1, 30):
        settings = {"frequency": frequency}
        yield f"sine_{frequency}", "sine", settings, lambda: 2 * torch.rand(3, 29) - 1

    for draw in (normal, tied):
        for kernel, stride, padding in ((2, 2, 0), (3, 2, 0), (3, 2, 1)):
            settings = {"kernel_size": kernel, "stride": stride, "padding": padding}
            name = f"max_pool2d_k{kernel}_s{stride}_p{padding}" + "_tied" * (draw is tied)
            yield name, "max_pool2d", settings, lambda draw=draw: draw(2, 3, 7, 6)
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1)):
        settings = {"kernel_size": kernel, "stride": stride, "padding": padding}
        name = f"avg_pool2d_k{kernel}_s{stride}_p{padding}"
        yield name, "avg_pool2d", settings, lambda: normal(2, 3, 7, 6)
    for size in (1, 2):
        name = f"adaptive_avg_pool2d_{size}"
        yield name, "adaptive_avg_pool2d", {"output_size": size}, lambda: normal(2, 3, 7, 5)

    yield "flatten", "flatten", {}, lambda: normal(3, 5, 2, 3)
    yield "residual", "residual", {"channels": 5}, lambda: normal(2, 5, 4, 3)
    for inputs, outputs, shape in ((5, 9, (5, 4)), (16, 32, (3, 2))):
        settings = {"stride": 2, "out_channels": outputs}
        draw = lambda inputs=inputs, shape=shape: normal(2, inputs, *shape)
        yield f"pad_shortcut_{inputs}x{outputs}", "pad_shortcut", settings, draw
    settings = {"num_embeddings": 6, "embedding_dim": 5}
    indices = torch.tensor([[0.0, 3, 3, 5], [1, 3, 0, 5]])
    yield "embedding", "embedding", settings, lambda: indices

    for heads in (1, 2, 4):
        yield f"attention_{heads}", "attention", {"heads": heads}, lambda: normal(2, 5, 3 * 8)
    settings = {"width": 8, "heads": 2, "blocks": 2}
    yield "transformer", "transformer", settings, lambda: normal(2, 5, 8)


def randomise(module):
    """Parameters of a usual size, norms away from the identity; f32 values in f64 tensors."""
    with torch.no_grad():
        for name, values in [*module.named_parameters(), *module.named_buffers()]:
            if not values.is_floating_point():
                continue
            if name.endswith("running_var"):
                drawn = 0.5 + torch.rand(values.shape)
            elif values.ndim == 1 and name.endswith("weight"):
                drawn = 1 + 0.3 * torch.randn(values.shape)
            elif values.ndim == 1:
                drawn = 0.3 * torch.randn(values.shape)
            else:
                drawn = torch.randn(values.shape) / math.sqrt(values[0].numel())
            values.copy_(drawn)


def floating_state(module):
    """The state dict without the batch counters."""
    return {k: v for k, v in module.state_dict().items() if v.is_floating_point()}


def layer_case(name, op, settings, draw, training=None):
    """The description of a case, and its tensors."""
    # Every case has a seed of its own: a new one leaves the others as they are.
    torch.manual_seed(zlib.crc32(name.encode()))
    module = OPS[op](**settings).double()
    randomise(module)
    module.train(training is not False)
    x = draw()
    tensors = {"input": x}
    tensors |= {f"param.{k}": v.float() for k, v in floating_state(module).items()}

    indices = op == "embedding"
    x = x.long() if indices else x.double().requires_grad_()
    output = module(x)
    grad_output = torch.randn(output.shape)
    output.backward(grad_output.double())

    tensors |= {"output": output, "grad_output": grad_output}
    tensors |= {f"grad.{k}": v.grad for k, v in module.named_parameters()}
    if not indices:
        tensors["grad_input"] = x.grad
    description = {"name": name, "op": op, "settings": settings}
    if training is not None:
        description["training"] = training
    if training:
        tensors |= {f"after.{k}": v for k, v in module.named_buffers() if v.is_floating_point()}
    return description, {
        f"{name}/{k}": v.detach().float().contiguous().clone() for k, v in tensors.items()
    }


def write_layers():
    descriptions, tensors = [], {}
    for case in cases():
        description, added = layer_case(*case)
        if not tensors.keys().isdisjoint(added):
            sys.exit(f"two cases are named {description['name']}")
        descriptions.append(description)
        tensors |= added
    save_file(tensors, HERE / "layers.safetensors")
    lines = ",\n".join(json.dumps(description) for description in descriptions)
    (HERE / "layers.json").write_text(f"[\n{lines}\n]\n")


def unit(start, count):
    """unit(start) to unit(start + count - 1) of the formula, f32."""
    i = np.arange(start, start + count, dtype=np.uint32)
    i ^= i >> 16
    i *= np.uint32(0x85EBCA6B)
    i ^= i >> 13
    i *= np.uint32(0xC2B2AE35)
    i ^= i >> 16
    return (i >> 8).astype(np.float32) * np.float32(2**-23) - np.float32(1)


def fill(network):
    """Gives every parameter its value by the formula."""
    offset = 0
    for name, parameter in network.named_parameters():
        values = unit(offset, parameter.numel())
        offset += parameter.numel()
        if parameter.ndim > 1:
            values *= np.float32(2 / math.sqrt(parameter[0].numel()))
        elif name.endswith("weight"):
            values = 1 + values / 4
        else:
            values /= 8
        assert values.dtype == np.float32
        parameter.data.copy_(torch.from_numpy(values).view_as(parameter))


class ReluInputs(TorchFunctionMode):
    """Collects what the ReLUs read."""

    def __init__(self):
        super().__init__()
        self.values = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is functional.relu:
            self.values.append(args[0].detach().double())
        return function(*args, **(kwargs or {}))


class TrainStep:
    """Logits, loss, gradients, running statistics and the ReLUs' inputs of one step."""

    def __init__(self, build, shape, first_image, dtype):
        network = build()
        fill(network)
        network = network.to(dtype).train()
        images = torch.from_numpy(unit(first_image, math.prod(shape))).view(shape)
        with ReluInputs() as relu_inputs:
            logits = network(images.to(dtype))
        loss = functional.cross_entropy(logits, torch.arange(shape[0]) % 10)
        loss.backward()
        self.logits = logits.detach().flatten()
        self.loss = loss.item()
        self.gradients = {name: p.grad.flatten() for name, p in network.named_parameters()}
        state = floating_state(network)
        self.running_statistics = {k: v for k, v in state.items() if "running" in k}
        self.relu_inputs = relu_inputs.values


def digits(value):
    """Ten significant digits: more than f32 has, fewer than depend on the machine."""
    return float(f"{value:.10g}")


def summary(values):
    """One line of JSON about a tensor."""
    count = len(values)
    indices = [(2 * j + 1) * count // 32 for j in range(16)] if count > 16 else range(count)
    return {
        "count": count,
        "sum": digits(values.sum()),
        "norm": digits(values.norm()),
        "elements": [[i, digits(values[i])] for i in indices],
    }


def report_f32(arch, step, single):
    """Prints how far PyTorch's own f32 is from f64, and from the kinks."""
    deviation = max(
        ((single.gradients[name] - gradient).norm() / gradient.norm()).item()
        for name, gradient in step.gradients.items()
    )
    nearest = min(
        (x.abs() / (x - y).abs()).min().item()
        for x, y in zip(step.relu_inputs, single.relu_inputs)
    )
    print(f"{arch}: f32 gradients deviate by {deviation:.1e}", end="; ")
    print(f"values before a ReLU are at least {nearest:.0f} times their error away from 0")


def table(key, tensors):
    """A JSON member: one line per tensor."""
    lines = (f'  "{name}": {json.dumps(summary(values))}' for name, values in tensors.items())
    return f'"{key}": {{\n' + ",\n".join(lines) + "\n}"


def write_networks():
    networks = []
    for arch, build, shape, first_image in NETWORKS:
        step = TrainStep(build, shape, first_image, torch.float64)
        report_f32(arch, step, TrainStep(build, shape, first_image, torch.float32))
        head = {
            "arch": arch,
            "input_shape": shape,
            "first_image": first_image,
            "loss": digits(step.loss),
            "logits": [digits(value) for value in step.logits],
        }
        tables = [
            table("gradients", step.gradients),
            table("running_statistics", step.running_statistics),
        ]
        networks.append(",\n".join([json.dumps(head)[:-1], *tables]) + "}")
    units = json.dumps(unit(0, 4).tolist())
    text = f'{{"first_units": {units},\n"networks": [\n' + ",\n".join(networks) + "\n]}\n"
    json.loads(text)
    (HERE / "networks.json").write_text(text)


if __name__ == "__main__":
    # Sums in one order: the files repeat on one version of PyTorch.
    torch.set_num_threads(1)
    write_layers()
    write_networks()
