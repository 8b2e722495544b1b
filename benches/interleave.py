#!/usr/bin/env python3
"""Runs two commands alternately and prints the medians of their times and the ratio.

Each command prints one JSON document with a number under --key. Running them in turn, in the
order AB BA AB ..., lets a change of the machine's load touch both alike: trust the ratio, not
the times.

Example:
  interleave.py -n 9 "weightspace eval resnet20.th --data cifar10 --json" \\
                     "python benches/pytorch_eval.py resnet20 --repeats 1"
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys


def run(command, key):
    """The number under `key` in the JSON that the command prints."""
    try:
        finished = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True)
    except OSError as error:
        sys.exit(f"{error}: {command}")
    if finished.returncode != 0:
        sys.exit(f"exit status {finished.returncode}: {command}")
    try:
        return float(json.loads(finished.stdout)[key])
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"no JSON document with a number under {key!r} ({error}): {command}")


def summary(command, times):
    return {
        "command": command,
        "median": statistics.median(times),
        "fastest": min(times),
        "slowest": max(times),
        "times": times,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", help="command A, quoted")
    parser.add_argument("b", help="command B, quoted")
    parser.add_argument("-n", type=int, default=9, help="runs of each (default 9)")
    parser.add_argument("--warmup", type=int, default=1, help="uncounted runs of each (default 1)")
    parser.add_argument("--key", default="seconds", help='JSON key (default "seconds")')
    arguments = parser.parse_args()
    if arguments.n < 1 or arguments.warmup < 0:
        parser.error("-n must be at least 1, --warmup at least 0")

    commands = (arguments.a, arguments.b)
    times = ([], [])
    for index in range(-arguments.warmup, arguments.n):
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            value = run(commands[which], arguments.key)
            print(f"{'AB'[which]} {value:.4f}", file=sys.stderr)
            if index >= 0:
                times[which].append(value)

    a, b = (summary(command, values) for command, values in zip(commands, times))
    pairs = [x / y for x, y in zip(*times)]
    report = {
        "key": arguments.key,
        "a": a,
        "b": b,
        "ratio": a["median"] / b["median"],
        "median_of_paired_ratios": statistics.median(pairs),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
