#!/usr/bin/env python3
"""Writes answers.json beside this file: what docs/format.md, sections 11 and 12, say of a few matrices and
projections, in plain Python without any library.

For every case: basis, seed of the key (purpose "subspace"), segment, d, k; q, the coefficients; sums, the
products S_i of the rows listed; gains, of the columns listed. For every projection: tensors as [weights,
fan-in], segments as [tensors, coefficients], step as bits of f32, and theta as bits of f32.
"""

import json
import math
import pathlib
import struct

MASK = 0xFFFFFFFF


def chacha8(key, stream, block):
    """The 16 words of a block."""
    state = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
    state += [block & MASK, block >> 32, stream & MASK, stream >> 32]
    x = state[:]

    def turn(word, bits):
        return (word << bits | word >> (32 - bits)) & MASK

    def quarter(a, b, c, d):
        for first, second, third, bits in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
            x[first] = (x[first] + x[second]) & MASK
            x[third] = turn(x[third] ^ x[first], bits)

    for _ in range(4):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) & MASK for a, b in zip(x, state)]


class Key:
    def __init__(self, seed):
        self.bytes = struct.pack("<Q", seed) + b"subspace".ljust(24, b"\0")
        self.blocks = {}

    def word(self, stream, position):
        at = (stream, position // 16)
        if at not in self.blocks:
            self.blocks[at] = chacha8(self.bytes, *at)
        return self.blocks[at][position % 16]


class Matrix:
    def __init__(self, basis, key, segment, d, k):
        self.basis, self.key, self.segment, self.d, self.k = basis, key, segment, d, k

    def word(self, stream, position):
        return self.key.word(self.segment * 2**32 + stream, position)

    def sign(self, i):
        return -1 if self.word(0, i // 32) >> i % 32 & 1 else 1

    def blocks(self):
        """First row, rows, first column, end of columns, number."""
        start = 0
        for t, b in enumerate(b for b in reversed(range(self.d.bit_length())) if self.d >> b & 1):
            end = start + (1 << b)
            yield start, b, self.k * start // self.d, self.k * end // self.d, t
            start = end

    def row(self, i):
        """Columns and entries other than 0."""
        if self.basis == "dense":
            for j in range(self.k):
                word = self.word(j // 256, 16 * (i // 16) + j // 16 % 16)
                yield j, 1 if word >> (i % 16 + j % 16) & 1 else -1
        elif self.basis == "uniform":
            for j in range(self.k):
                word = self.word(j // 16, 4 * i + j % 16 // 4)
                yield j, 2 * (word >> 8 * (j % 4) & 255) - 255
        elif self.basis == "hadamard":
            for a, b, first, end, t in self.blocks():
                if not a <= i < a + (1 << b):
                    continue
                words = [self.word(1, 4 * t + n) for n in range(4)]
                for j in range(first, end):
                    x = (j - first + words[0]) % 2**b
                    for v in words[1:]:
                        x = x * (v | 1) % 2**b
                        x ^= x >> max(1, (b + 1) // 2)
                    odd = bin((i - a) & x).count("1") % 2
                    yield j, -self.sign(i) if odd else self.sign(i)
        else:
            yield self.column(i), self.sign(i) if self.basis == "sketch" else 1

    def column(self, i):
        g, r = divmod(i, self.k)
        if (g + 1) * self.k > self.d:
            return r
        f = self.word(1, 2 * g) * self.k // 2**32 + 1
        c = self.word(1, 2 * g + 1) * self.k // 2**32
        while math.gcd(f, self.k) > 1:
            f = f % self.k + 1
        return (f * r + c) % self.k

    def gain(self, j):
        if self.basis == "dense":
            return 1, 1
        if self.basis == "uniform":
            return 1, 21845
        if self.basis == "hadamard":
            b = next(b for _, b, first, end, _ in self.blocks() if first <= j < end)
            return self.d, 2**b
        return self.d, sum(self.column(i) == j for i in range(self.d))


def f32(value):
    """Rounded to single precision; exact doubles in, so one rounding."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def bits(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


def coefficients(k):
    return [j * 37 % 201 - 100 for j in range(k)]


def projection(basis, seed, start, tensors, segments, step):
    """Weights of all tensors, whose first and last 3 of each are kept."""
    key = Key(seed)
    q = coefficients(sum(k for _, k in segments))
    theta, tensor, before = [], 0, 0
    for number, (count, k) in enumerate(segments):
        own = tensors[tensor : tensor + count]
        matrix = Matrix(basis, key, number, sum(n for n, _ in own), k)
        i = 0
        for t, (n, fan_in) in enumerate(own, tensor):
            kept = sorted({*range(3), *range(n - 3, n)})
            for element in kept:
                row = list(matrix.row(i + element))
                total = sum(m * q[before + j] for j, m in row)
                numerator, denominator = matrix.gain(row[0][0]) if row else (1, 1)
                factor = f32(math.sqrt(numerator / (3 * fan_in * denominator)))
                # Products and sums of two f32 are exact in f64 or round the same (Figueroa 1995).
                moved = f32(f32(total) * f32(f32(step) * factor))
                begin = 0.0
                if start == "drawn":
                    u = (key.word(2**63 + t, element) >> 8) * 2.0**-24
                    begin = f32((2 * u - 1) * f32(math.sqrt(1 / fan_in)))
                theta.append(bits(f32(begin + moved)))
            i += n
        tensor, before = tensor + count, before + k
    case = {"basis": basis, "seed": seed, "start": start, "tensors": tensors, "segments": segments}
    return case | {"step": bits(step), "theta": theta}


def main():
    cases = []
    for basis in ["dense", "uniform", "hadamard", "sketch", "hash"]:
        for seed, segment, d, k in [(1, 0, 619, 40), (2**63 + 5, 7, 1030, 300), (3, 1, 17, 17)]:
            matrix = Matrix(basis, Key(seed), segment, d, k)
            q = coefficients(k)
            rows = sorted({0, 1, 2, 3, d // 2, d - 2, d - 1})
            sums = [sum(m * q[j] for j, m in matrix.row(i)) for i in rows]
            columns = [0, k // 2, k - 1]
            gains = [matrix.gain(j) for j in columns]
            cases.append({"basis": basis, "seed": seed, "segment": segment, "d": d, "k": k})
            cases[-1] |= {"rows": rows, "sums": sums, "columns": columns, "gains": gains}
    tensors = [(150, 25), (6, 25), (48, 6), (8, 6)]
    projections = [
        projection("dense", 1, "drawn", tensors, [(4, 30)], 0.013),
        projection("uniform", 2, "zero", tensors, [(2, 9), (2, 4)], 0.5),
        projection("hadamard", 3, "drawn", tensors, [(2, 20), (2, 11)], 0.0071),
        projection("sketch", 4, "drawn", tensors, [(4, 50)], 1e-3),
        projection("hash", 5, "zero", tensors, [(4, 50)], 1e-3),
    ]
    document = {"matrices": cases, "projections": projections}
    path = pathlib.Path(__file__).with_name("answers.json")
    path.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
