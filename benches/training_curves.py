#!/usr/bin/env python3
"""Draws held-out accuracy over epochs of runs of `weightspace train` as one SVG, without libraries.

    python benches/training_curves.py OUT.svg [--level NAME=PERCENT ..] NAME=RUN_FOLDER ..

Lines of one name before the last space of NAME have one colour; `--level` draws a dashed line.
"""

import argparse
import json
import pathlib

WIDTH, HEIGHT = 960, 460
LEFT, RIGHT, TOP, BOTTOM = 60, 270, 20, 50
COLOURS = ["#0060a8", "#c85000", "#2e8540", "#8a3f9e", "#6b6b6b"]


def accuracies(folder):
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [(m["epoch"], 100 * m["accuracy"]) for m in lines if m["split"] == "held-out"]


def spread(labels, least=13):
    """Moves labels apart that would lie over one another."""
    placed = []
    for y, text, colour in sorted(labels):
        y = max(y, placed[-1][0] + least) if placed else y
        placed.append((y, text, colour))
    return placed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--level", action="append", default=[])
    options = parser.parse_args()
    runs = [(name, accuracies(pathlib.Path(folder))) for name, folder in (r.rsplit("=", 1) for r in options.runs)]
    levels = [(name, float(value)) for name, value in (level.rsplit("=", 1) for level in options.level)]
    epochs = max(epoch for _, points in runs for epoch, _ in points)
    values = [v for _, points in runs for _, v in points] + [v for _, v in levels]
    low, high = 10 * (min(values) // 10), 10 * (max(values) // 10 + 1)
    x = lambda epoch: LEFT + (WIDTH - LEFT - RIGHT) * epoch / epochs
    y = lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
    kinds = list(dict.fromkeys(name.rsplit(" ", 1)[0] for name, _ in runs))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for value in range(int(low), int(high) + 1, 10):
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value} %</text>')
    for epoch in range(0, epochs + 1, 5):
        parts.append(f'<text x="{x(epoch):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{x(epochs / 2):.1f}" y="{HEIGHT - 12}" text-anchor="middle">epochs</text>')
    labels = []
    for name, value in levels:
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#333" stroke-dasharray="5 4"/>')
        labels.append((y(value) + 4, f"{name} {value:.2f}", "#333"))
    for name, points in runs:
        colour = COLOURS[kinds.index(name.rsplit(" ", 1)[0]) % len(COLOURS)]
        path = "L".join(f"{x(epoch):.1f} {y(value):.1f}" for epoch, value in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        labels.append((y(points[-1][1]) + 4, f"{name} {points[-1][1]:.2f}", colour))
    for at, text, colour in spread(labels):
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{at:.1f}" fill="{colour}">{text}</text>')
    options.out.write_text("\n".join(parts + ["</svg>"]) + "\n")


if __name__ == "__main__":
    main()
