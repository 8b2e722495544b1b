#!/usr/bin/env python3
"""Training of the zoos' small CNN: sixteen models in SIMD lanes beside PyTorch, in turns.

Three ways to train models of 28 x 28 x 1 images with tanh, log-softmax and Adam, each on one thread of
one core in a process of its own:

  lanes    the example lane_speed of weightspace-nn, which --lanes gives the path of
  single   PyTorch, one model: plain eager training, in what is fastest of the memory formats and the
           optimiser's loops (found by trials)
  stacked  PyTorch, sixteen models at once: grouped convolutions and batched matrix products, one
           optimiser over all, the same choices

A step is zero_grad, forward, loss, backward and the optimiser's step on batches that are drawn and laid
out before the clock starts (ours gathers them from 9,920 images within the step). Throughput is
model-images per second of processor time: images times models by the mean step, without the time in
which other programs had the core. Prints one JSON document with the medians over the turns and their
ratios; those of the median steps by the clock, which a busy machine disturbs, stand beside them.

Example:
  pytorch_zoo.py --lanes ../target/release/examples/lane_speed -n 9
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

import pytorch_eval

MODELS = 16
# Channels of the input and the output, and size, of the convolutions.
CONVOLUTIONS = [(1, 8, 5), (8, 6, 5), (6, 4, 2)]
LOOPS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}
WAYS = ("lanes", "single", "stacked")


def single_step(torch, batch, memory_format, loop):
    """A step of one model."""
    nn = torch.nn
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.Tanh()),
        *(nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), nn.Tanh()),
        *(nn.Conv2d(6, 4, 2), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(36, 20), nn.Tanh(), nn.Linear(20, 10), nn.LogSoftmax(1)),
    ).to(memory_format=memory_format)
    images = torch.rand(batch, 1, 28, 28).contiguous(memory_format=memory_format)
    labels = torch.randint(10, (batch,))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, **loop)

    def step():
        optimizer.zero_grad()
        nn.functional.nll_loss(network(images), labels).backward()
        optimizer.step()

    return step


def stacked_step(torch, batch, memory_format, loop):
    """A step of sixteen models, each with images of its own: groups of channels, batched products."""
    functional = torch.nn.functional

    def parameter(*shape):
        return torch.nn.Parameter(0.1 * torch.randn(*shape))

    convolutions = [
        (parameter(MODELS * to, of, size, size), parameter(MODELS * to))
        for of, to, size in CONVOLUTIONS
    ]
    linears = [
        (parameter(MODELS, of, to), parameter(MODELS, 1, to)) for of, to in [(36, 20), (20, 10)]
    ]
    images = torch.rand(batch, MODELS, 28, 28).contiguous(memory_format=memory_format)
    labels = torch.randint(10, (MODELS * batch,))
    parameters = [p for pair in convolutions + linears for p in pair]
    optimizer = torch.optim.Adam(parameters, lr=3e-4, **loop)

    def forward():
        x = images
        for layer, (weight, bias) in enumerate(convolutions):
            x = functional.conv2d(x, weight, bias, groups=MODELS)
            x = torch.tanh(functional.max_pool2d(x, 2) if layer < 2 else x)
        x = x.reshape(batch, MODELS, 36).transpose(0, 1)
        (first, first_bias), (second, second_bias) = linears
        x = torch.tanh(torch.baddbmm(first_bias, x, first))
        return torch.baddbmm(second_bias, x, second).log_softmax(2)

    def step():
        optimizer.zero_grad()
        # The sum of the models' mean losses.
        loss = functional.nll_loss(forward().reshape(-1, 10), labels, reduction="sum") / batch
        loss.backward()
        optimizer.step()

    return step


def measure(way, batch, seconds, choice):
    """Times one way of PyTorch in this process; without a choice, the trials find it."""
    import torch

    torch.set_num_threads(1)
    prepare = {"single": single_step, "stacked": stacked_step}[way]
    choices = list(itertools.product(pytorch_eval.MEMORY_FORMATS, LOOPS))
    choices = [tuple(choice.split(","))] if choice else choices
    steps = [
        prepare(torch, batch, pytorch_eval.MEMORY_FORMATS[layout], LOOPS[loop])
        for layout, loop in choices
    ]
    times = [[] for _ in steps]
    for step in steps:
        pytorch_eval.timed(step, repeats=20, warmup=0)
    busy = [0.0] * len(steps)
    end = time.perf_counter() + seconds
    while len(times[0]) < 10 or time.perf_counter() < end:
        for i, step in enumerate(steps):
            start = time.process_time()
            times[i] += pytorch_eval.timed(step, repeats=5, warmup=0)
            busy[i] += time.process_time() - start
    busy = [seconds / len(taken) for seconds, taken in zip(busy, times)]
    best = min(range(len(busy)), key=busy.__getitem__)
    return {
        "choice": ",".join(choices[best]),
        "seconds": statistics.median(times[best]),
        "processor_seconds": busy[best],
    }


def run(command):
    """The JSON document that a command prints, pinned to one core."""
    core = str(max(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, *command]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def compare(lanes, batch, turns, seconds):
    """Medians of the three ways in turn, in model-images per second, and ratios."""
    own = [sys.executable, __file__, "--batch", str(batch)]
    choices = {
        way: run([*own, "--way", way, "--seconds", str(6 * seconds)])["choice"]
        for way in WAYS[1:]
    }
    commands = {"lanes": [lanes, "--batch", str(batch), "--seconds", str(seconds)]}
    for way, choice in choices.items():
        commands[way] = [*own, "--way", way, "--choice", choice, "--seconds", str(seconds)]
    results = {way: [] for way in WAYS}
    for turn in range(turns):
        for way in WAYS if turn % 2 == 0 else WAYS[::-1]:
            results[way].append(run(commands[way]))
    report = {"batch": batch, "turns": turns, "choices": choices}
    for key, title in [("processor_seconds", "processor_time"), ("seconds", "clock")]:
        images = {way: batch * (1 if way == "single" else MODELS) for way in WAYS}
        rates = {
            way: statistics.median(images[way] / result[key] for result in results[way])
            for way in WAYS
        }
        report[title] = {
            "model_images_per_second": rates,
            "lanes_by_single": rates["lanes"] / rates["single"],
            "lanes_by_stacked": rates["lanes"] / rates["stacked"],
        }
    return report


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", help="path of the example lane_speed")
    parser.add_argument("--batch", type=int, action="append", help="default 10 and 32")
    parser.add_argument("-n", type=int, default=9, help="turns (default 9)")
    parser.add_argument("--seconds", type=float, default=2, help="of each run (default 2)")
    parser.add_argument("--way", choices=WAYS[1:], help="time this way of PyTorch and nothing else")
    parser.add_argument("--choice", help="memory format and loop of --way, as FORMAT,LOOP")
    arguments = parser.parse_args()
    batches = arguments.batch or [10, 32]
    if arguments.way:
        print(json.dumps(measure(arguments.way, batches[0], arguments.seconds, arguments.choice)))
        return
    if not arguments.lanes:
        parser.error("give --lanes")
    results = [compare(arguments.lanes, b, arguments.n, arguments.seconds) for b in batches]
    print(json.dumps({"processor": pytorch_eval.processor(), "results": results}, indent=2))


if __name__ == "__main__":
    pytorch_eval.tune_allocator()
    main()
