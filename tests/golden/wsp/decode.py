"""A decoder of .wsp files in plain Python, written from docs/format.md alone: slow, and easy to follow.

    pip install numpy
    python tests/golden/wsp/decode.py FILE.wsp OUT.safetensors [--base BASE.safetensors] [--key KEY]
    python tests/golden/wsp/decode.py

The first writes what a file decodes to, the same bytes for every tensor as `weightspace decompress`. The second prints SHA-256 and the
first 16 hexadecimal digits of the content hash of the files of the method quantize beside this file; for
every subspace-*.wsp beside this file the basis, the SHA-256 of the file and the first 16
hexadecimal digits of the content hashes of what all its planes and of what 2 planes decode to; then
SHA-256 and content hash of low-rank.wsp, and of every predictor-*.wsp with its encoding: what crates/weightspace-core/tests/wsp_golden.rs pins.
"""

import argparse
import hashlib
import json
import math
import pathlib
import struct
import sys
import zlib
from fractions import Fraction

import numpy as np
from coder import Exponents, Mixture, RangeDecoder, Values, fine, level

NAMES = ["dense", "uniform", "hadamard", "sketch", "hash"]
SIZES = [4, 8, 2, 2, 1, 1, 1, 2, 2, 4, 4, 8, 8]
f32 = np.float32


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


# Section 11.
def rotate(x, n):
    return ((x << n) | (x >> (32 - n))) & 0xFFFFFFFF


def chacha8(key, stream, block):
    words = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
    words += [block & 0xFFFFFFFF, block >> 32, stream & 0xFFFFFFFF, stream >> 32]
    x = words[:]

    def quarter(a, b, c, d):
        for one, two, three, n in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
            x[one] = (x[one] + x[two]) & 0xFFFFFFFF
            x[three] = rotate(x[three] ^ x[one], n)

    for _ in range(4):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) & 0xFFFFFFFF for a, b in zip(x, words)]


class Words:
    def __init__(self, key, stream):
        self.key, self.stream, self.blocks = key, stream, {}

    def __getitem__(self, i):
        if i // 16 not in self.blocks:
            self.blocks[i // 16] = chacha8(self.key, self.stream, i // 16)
        return self.blocks[i // 16][i % 16]


# Section 12.
class Matrix:
    def __init__(self, basis, key, segment, d, k):
        self.basis, self.d, self.k, self.streams = basis, d, k, {}
        self.key, self.segment = key, segment
        if basis == "hadamard":
            self.blocks, a, t = [], 0, 0
            for b in reversed(range(d.bit_length())):
                if d >> b & 1:
                    n = 1 << b
                    self.blocks.append((a, n, b, k * a // d, k * (a + n) // d, t))
                    a, t = a + n, t + 1

    def words(self, n):
        if n not in self.streams:
            self.streams[n] = Words(self.key, (self.segment << 32) + n)
        return self.streams[n]

    def sign(self, i):
        return -1 if self.words(0)[i // 32] >> (i % 32) & 1 else 1

    def row(self, i):
        """The entries of a row other than 0, by column; and their gain."""
        d, k = self.d, self.k
        if self.basis == "dense":

            def entry(j):
                word = self.words(j // 256)[16 * (i // 16) + j // 16 % 16]
                return 1 if word >> (i % 16 + j % 16) & 1 else -1

            return {j: entry(j) for j in range(k)}, Fraction(1)
        if self.basis == "uniform":
            word = lambda j: self.words(j // 16)[4 * i + j % 16 // 4]
            entries = {j: 2 * (word(j) >> 8 * (j % 4) & 255) - 255 for j in range(k)}
            return entries, Fraction(1, 21845)
        if self.basis == "hadamard":
            a, n, b, first, end, t = next(x for x in self.blocks if x[0] <= i < x[0] + x[1])
            entries = {}
            for j in range(first, end):
                w = [self.words(1)[4 * t + x] for x in range(4)]
                x = (j - first + w[0]) % n
                for v in w[1:]:
                    x = x * (v | 1) % n
                    x ^= x >> max(1, -(-b // 2))
                entries[j] = self.sign(i) * (-1 if bin(i - a & x).count("1") % 2 else 1)
            return entries, Fraction(d, n)
        g, j = divmod(i, k)
        if (g + 1) * k <= d:
            w = self.words(1)
            f, c = (w[2 * g] * k >> 32) + 1, w[2 * g + 1] * k >> 32
            while math.gcd(f, k) != 1:
                f = f % k + 1
            j = (f * j + c) % k
        entries = {j: self.sign(i) if self.basis == "sketch" else 1}
        return entries, Fraction(d, d // k + (j < d % k))


# Section 13.
def decode_planes(sections, segments, total, wanted):
    """Coefficients from the first `wanted` of `total` planes."""
    significance, refinement = Mixture(1, [15, 48, 24]), Mixture(8, [1, 24])
    m = [[0] * k for k in segments]
    negative = [[False] * k for k in segments]
    b = total
    for planes, content in sections:
        coder = RangeDecoder(content)
        for _ in range(planes):
            if total - b == wanted:
                break
            b -= 1
            for known, signs in zip(m, negative):
                for j in range(len(known)):
                    a = {
                        i: (16 * v + 8) * (1 if i < j else 2) if v else 0
                        for i, v in enumerate(known)
                        if i != j
                    }
                    mean = sum(a.values()) // max(1, len(a))
                    close = [v for i, v in a.items() if abs(i - j) <= 16]
                    near = sum(close) // max(1, len(close))
                    if known[j] == 0:
                        contexts = [b, fine(mean), level(near)]
                        if significance.decide(coder, 0, contexts):
                            known[j], signs[j] = 1, coder.uniform_bit() == 1
                    elif known[j] < 8:
                        bit = refinement.decide(coder, known[j], [0, level(mean)])
                        known[j] = 2 * known[j] + bit
                    else:
                        known[j] = 2 * known[j] + coder.uniform_bit()
    r = b
    value = lambda v: (v << r) + (1 << r >> 1) if v else 0
    return [[-value(v) if s else value(v) for v, s in zip(*pair)] for pair in zip(m, negative)]


def read_table(content):
    r = Reader(zlib.decompress(content, -15))
    n = r.varint()
    codes = list(r.take(n))
    shared = [r.varint() for _ in range(n)]
    added = [r.varint() for _ in range(n)]
    names, name = [], b""
    for keep, more in zip(shared, added):
        name = name[:keep] + r.take(more)
        names.append(name.decode())
    shapes, channels = [], None
    for _ in range(n):
        rank = r.byte()
        shape = [channels] if rank == 0 else [r.varint() for _ in range(rank - 1)]
        if len(shape) >= 2:
            channels = shape[0]
        shapes.append(shape)
    # Name, coding, type, shape, and the element of a constant, or origin and scale of a quantised tensor.
    tensors = [[a, b >> 4, b & 15, c, None] for a, b, c in zip(names, codes, shapes)]
    for tensor in tensors:
        if tensor[1] == 1:
            tensor[4] = r.take(SIZES[tensor[2]])
    quantized = [tensor for tensor in tensors if tensor[1] in (2, 3)]
    origins = r.take(len(quantized))
    for tensor, origin, scale in zip(quantized, origins, in_planes(r, len(quantized))):
        tensor[4] = origin, scale
    assert r.at == len(r.data)
    return tensors


def in_planes(reader, count):
    """Numbers whose lowest bytes come first, all of them, and their highest last."""
    planes = reader.take(4 * count)
    return np.frombuffer(bytes(planes[p * count + t] for t in range(count) for p in range(4)), "<f4")


# Section 4.
EXPONENTS = [0x3F800000, 0x3F6AC0C7, 0x3F5744FD, 0x3F45672A, 0x3F3504F3, 0x3F25FED7, 0x3F1837F0, 0x3F0B95C2]
EXPONENTS = np.array(EXPONENTS, "<u4").view("<f4")


def quantized_tensors(pieces, table):
    """The bytes of every quantised tensor, by its place in the table."""
    runs, symbols = [], {}
    for place, (_, coding, _, shape, _) in enumerate(table):
        symbols[place] = [], []
        if coding == 3:
            runs.append((place, 0, shape[0]))
        if coding in (2, 3):
            runs.append((place, 1, math.prod(shape)))
    position = 0
    for content in pieces:
        coder, exponents, values = RangeDecoder(content), Exponents(), Values()
        end, start = position + (1 << 20), 0
        for place, kind, count in runs:
            first, last = max(position, start) - start, min(end, start + count) - start
            if first < last and kind == 0:
                symbols[place][0].extend(exponents.decode(coder) for _ in range(first, last))
            elif first < last:
                _, _, _, shape, (origin, _) = table[place]
                symbols[place][1].extend(values.decode(coder, shape, origin, first, last - first))
            start += count
        position = end
    contents = {}
    for place, kind, count in runs:
        if kind == 0:
            continue
        exponents, values = symbols[place]
        scale = table[place][4][1]
        steps = np.array([scale * EXPONENTS[e % 8] * f32(2.0 ** -(e // 8)) for e in exponents] or [scale], "<f4")
        values = np.array(values, "<f4").reshape(len(steps), -1) * steps[:, None]
        assert values.size == count and values.dtype == f32
        contents[place] = values.tobytes()
    return contents


def stored_tensors(sections, table):
    """The bytes of every tensor that is raw, constant or quantised, in the order of the table; else nothing."""
    of = lambda wanted: [content for kind, content in sections if kind == wanted]
    raw = Reader(b"".join(c[1:] if c[0] == 0 else zlib.decompress(c[1:], -15) for c in of(3)))
    quantized = quantized_tensors(of(2), table)
    contents = []
    for place, (_, coding, kind, shape, element) in enumerate(table):
        if coding == 0:
            contents.append(raw.take(math.prod(shape) * SIZES[kind]))
        elif coding == 1:
            contents.append(element * math.prod(shape))
        else:
            contents.append(quantized.get(place))
    assert raw.at == len(raw.data)
    return contents


def decode_quantized(data):
    """Name, type, shape and bytes of every tensor."""
    sections = read_sections(data, 0)
    table = read_table(sections[0][1])
    contents = stored_tensors(sections, table)
    return [(t[0], t[2], t[3], content) for t, content in zip(table, contents)]


def read_sections(data, method):
    """Kind and content, without its check, of every section."""
    assert data[:5] == b"\x8bWSP\x01" and data[5] == method
    assert hashlib.sha256(data[:-8]).digest()[:8] == data[-8:]
    r = Reader(data[:-8])
    r.take(6)
    for _ in range(3):
        r.take(r.varint())
    r.take(16), r.varint(), r.varint()
    sections = []
    while r.at < len(r.data):
        kind = r.byte()
        content = r.take(r.varint())
        if kind in (4, 5):
            assert hashlib.sha256(data[: r.at - 2]).digest()[:2] == content[-2:]
            content = content[:-2]
        sections.append((kind, content))
    return sections


# Section 14.
def numbers(kind, shape, content):
    """Elements as f32."""
    if kind == 3:
        values = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(content, {0: "<f4", 2: "<f2", 4: "u1"}[kind]).astype("<f4")
    return values.reshape(shape)


def decode_low_rank(data):
    """Name, type, shape and bytes of every tensor."""
    sections = read_sections(data, 3)
    table = read_table(sections[0][1])
    stored = iter(zip(table, stored_tensors(sections, table)))

    def factor():
        (_, _, kind, shape, _), content = next(stored)
        return numbers(kind, shape, content)

    tensors = []
    for (name, coding, kind, shape, _), content in stored:
        if coding == 6:
            u, v = factor(), factor()
            total = np.zeros((len(u), v.shape[1]), "<f4")
            for k in range(len(v)):
                total = total + u[:, k : k + 1] * v[k]
            assert total.dtype == f32 and total.size == math.prod(shape)
            content = total.tobytes()
        tensors.append((name, kind, shape, content))
    return tensors


# Section 15.
SINE = [
    0x400921FB54442D18, 0xC014ABBCE625BE53, 0x400466BC6775AAE2, 0xBFE32D2CCE62BD86,
    0x3FB50783487EE782, 0xBF7E3074FDE8871F, 0x3F3E8F434D018D63, 0xBEF6FADB9F155744,
    0x3EAAAEC32AF93359, 0xBE58A404211F9547, 0x3E02877020D52CF0,
]  # fmt: skip
SINE = [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in SINE]


def sine(s):
    total = SINE[10]
    for c in SINE[9::-1]:
        total = total * (s * s) + c
    return s * total


def sine_and_cosine(x):
    u = math.fmod(x, 2.0)
    v = u if u < 1 else 2 - u
    s = sine(v if v <= 0.5 else 1 - v)
    return [s if u < 1 else -s, sine(0.5 - v)]


def one_of(coder, n):
    """A number of an order's exchange."""
    a = 0
    while n > 1:
        k = n.bit_length() - 1
        p = min((2 ** (16 + k) + n // 2) // n, 65535)
        if n == 2**k or coder.decide(p):
            return a + coder.uniform(k)
        a, n = a + 2**k, n - 2**k
    return a


def features(encoding, p):
    if encoding[0] == 0:
        out, power = [], 1.0
        for _ in range(encoding[1]):
            out += sine_and_cosine(p * power)
            power = power * encoding[2]
        return [f32(x) for x in out]
    x = 2 * p - 1
    out = [1.0, x]
    while len(out) <= encoding[1]:
        out.append(2 * x * out[-1] - out[-2])
    return [f32(t) for t in out[1:]]


def decode_predictor(data):
    """Name, type, shape and bytes of every tensor."""
    sections = read_sections(data, 2)
    of = lambda wanted: [content for kind, content in sections if kind == wanted]
    table = read_table(of(1)[0])
    stored = zip(table, stored_tensors(sections, table))
    contents = {t[0]: (t[2], t[3], content) for t, content in stored}

    own = [t for t in table if t[1] == 7]
    r = Reader(zlib.decompress(of(6)[0], -15))
    count, scale, encoding = r.varint(), r.byte(), [r.byte()]
    if encoding[0] < 3:
        encoding.append(r.varint())
    if encoding[0] == 0:
        encoding.append(struct.unpack("<d", r.take(8))[0])
    codes = list(r.take(len(own)))
    tiles = [r.varint() for _ in own]
    scales = in_planes(r, len(own))
    assert r.at == len(r.data)

    inner = iter([t[0] for t in table[len(table) - count :]])
    def values():
        return numbers(*contents[next(inner)])

    tables = [values() for _ in range(3)] if encoding[0] >= 2 else None
    left = count - 3 * (tables is not None) - sum(code >= 16 for code in codes)
    layers = [(None, values())] if encoding[0] == 3 else []
    layers += [(values(), values()) for _ in range(left // 2)]
    outputs = len(layers[-1][1])

    # Positions.
    pieces, left = iter(of(7)), [0, None]

    def exchange(n):
        if left[0] == 0:
            left[:] = 1 << 16, RangeDecoder(next(pieces))
        left[0] -= 1
        return one_of(left[1], n)

    def permutation(n):
        p = list(range(n))
        for i in range(n - 1, 0, -1):
            j = exchange(i + 1)
            p[i], p[j] = p[j], p[i]
        return p

    rows, sizes = [], []
    for code, (_, _, _, shape, _), k in zip(codes, own, tiles):
        filters, columns = shape[0], math.prod(shape[1:])
        n = -(-columns // k)
        sizes.append((filters, n))
        code %= 16
        if code == 0:
            position = [(f, i) for f in range(filters) for i in range(n)]
        elif code == 3:
            position = [divmod(x, n) for x in permutation(filters * n)]
        else:
            p = permutation(filters)
            q = [permutation(n) for _ in range(filters)] if code == 2 else [permutation(n)] * filters
            position = [(p[f], q[f][i]) for f in range(filters) for i in range(n)]
        rows.append(position)
    most = [max(s[a] for s in sizes) for a in range(2)]
    coordinates = []
    for t, (position, size) in enumerate(zip(rows, sizes)):
        by = [len(own), *(size if scale == 0 else most)] if scale < 2 else [1, 1, 1]
        coordinates.append([[t / by[0], f / by[1], i / by[2]] for f, i in position])
    distinct = [sorted({c[a] for rows in coordinates for c in rows}) for a in range(3)]

    def first_sums(axis, index):
        if encoding[0] == 3:
            return tables[axis][index]
        x = tables[axis][index] if tables else features(encoding, distinct[axis][index])
        weight = layers[0][0][:, axis * len(x) : (axis + 1) * len(x)]
        total = np.zeros(len(weight), "<f4")
        for k in range(len(x)):
            total = total + weight[:, k] * x[k]
        return total

    sums = [[first_sums(a, v) for v in range(len(distinct[a]))] for a in range(3)]
    for t, (name, _, kind, shape, _) in enumerate(own):
        out, columns, k = [], math.prod(shape[1:]), tiles[t]
        for row, coordinate in enumerate(coordinates[t]):
            h = layers[0][1]
            for a in range(3):
                h = h + sums[a][distinct[a].index(coordinate[a])]
            for weight, bias in layers[1:]:
                h = np.where(h > 0, h, f32(0))
                total = bias
                for j in range(len(h)):
                    total = total + weight[:, j] * h[j]
                h = total
            length = min(k, columns - row % sizes[t][1] * k)
            first = (outputs - k) // 2
            out += list(h[first : first + length] * scales[t])
        out = np.array(out, "<f4")
        if codes[t] >= 16:
            out = out * values().reshape(-1)
        contents[name] = kind, shape, out.astype("<f4").tobytes()
    return [(t[0], *contents[t[0]]) for t in table[: len(table) - count]]


def decode(data, base, withheld, wanted):
    """Name, type, shape and bytes of every tensor."""
    sections = read_sections(data, 1)
    of = lambda wanted: [content for kind, content in sections if kind == wanted]
    table = read_table(of(1)[0])
    stored = stored_tensors(sections, table)

    r = Reader(of(4)[0])
    basis, start, kind = NAMES[r.byte()], r.byte(), r.byte()
    if kind == 0:
        key = struct.pack("<Q", r.varint()) + b"subspace"
        key += bytes(32 - len(key))
    else:
        key = r.take(32) if kind == 1 else withheld
    if start == 2 or any(t[1] == 5 for t in table):
        assert r.take(32) == content_hash([(n, *t) for n, t in base.items()])
    step = f32(struct.unpack("<f", r.take(4))[0])
    segments = [(r.varint(), r.varint()) for _ in range(r.varint())]
    planes = [(r.byte(), r.varint()) for _ in range(r.byte())]
    assert r.at == len(r.data)
    contents = of(5)
    assert [length for _, length in planes] == [len(c) + 2 for c in contents]
    total = sum(count for count, _ in planes)
    coded = [(count, content) for (count, _), content in zip(planes, contents)]
    coefficients = decode_planes(coded, [k for _, k in segments], total, min(wanted, total))

    projected = [t for t in table if t[1] == 4]
    weights, fan_in, t = {}, 1, 0
    for number, (count, k) in enumerate(segments):
        own = projected[t : t + count]
        lengths = [math.prod(tensor[3]) for tensor in own]
        matrix = Matrix(basis, key, number, sum(lengths), k)
        row = 0
        for (name, _, _, shape, _), length in zip(own, lengths):
            if len(shape) >= 2:
                fan_in = math.prod(shape[1:])
            drawn, bound, out = Words(key, 2**63 + t), f32(math.sqrt(1 / fan_in)), []
            for i in range(length):
                entries, gain = matrix.row(row + i)
                total_sum = sum(v * coefficients[number][j] for j, v in entries.items())
                # The denominator is that of the gain in its own terms; the quotient is the same.
                factor = f32(math.sqrt(gain.numerator / (gain.denominator * 3 * fan_in)))
                begin = f32(0)
                if start == 1:
                    begin = (f32(2) * (f32(drawn[i] >> 8) * f32(2**-24)) - f32(1)) * bound
                elif start == 2:
                    begin = numbers(*base[name]).reshape(-1)[i]
                out.append(begin + f32(total_sum) * (step * factor))
            weights[name] = np.array(out, "<f4").tobytes()
            row, t = row + length, t + 1

    tensors = []
    for (name, coding, kind, shape, _), content in zip(table, stored):
        if coding == 4:
            content = weights[name]
        elif coding == 5:
            assert base[name][:2] == (kind, shape)
            content = base[name][2]
        tensors.append((name, kind, shape, content))
    return tensors


# Section 9.
def content_hash(tensors):
    h = hashlib.sha256()
    for name, kind, shape, content in sorted(tensors, key=lambda t: t[0].encode()):
        name = name.encode()
        h.update(struct.pack("<Q", len(name)) + name + bytes([kind]))
        h.update(struct.pack(f"<{1 + len(shape)}Q", len(shape), *shape) + content)
    return h.digest()


class Numbers:
    """Those of wsp_golden.rs."""

    def __init__(self, state):
        self.state = state

    def next(self, below):
        self.state = (self.state * 6364136223846793005 + 1) % 2**64
        return (self.state >> 33) % below

    def value(self, largest):
        magnitude = min(self.next(largest), self.next(largest), self.next(largest))
        return magnitude if self.next(2) == 0 else -magnitude


def make_base():
    numbers, base = Numbers(11), {}
    shapes = {"conv.weight": [8, 3, 3, 3], "conv.bias": [8], "linear.weight": [10, 17]}
    for name, shape in shapes.items():
        half = name.startswith("conv")
        values = np.array([numbers.value(1000) / 512 for _ in range(math.prod(shape))])
        base[name] = (2 if half else 0, shape, values.astype("<f2" if half else "<f4").tobytes())
    base["norm.steps"] = (12, [], bytes([3] * 8))
    return base


def print_golden():
    folder = pathlib.Path(__file__).parent
    for name in ["empty", "network", "dtypes", "sections"]:
        data = (folder / f"{name}.wsp").read_bytes()
        content = content_hash(decode_quantized(data)).hex()[:16]
        print(f'("{name}", "{hashlib.sha256(data).hexdigest()}", "{content}"),')
    for name in NAMES:
        data = (folder / f"subspace-{name}.wsp").read_bytes()
        hashes = [decode(data, make_base(), bytes(range(32)), wanted) for wanted in (99, 2)]
        hashes = [content_hash(tensors).hex()[:16] for tensors in hashes]
        print(f'("{name}", "{hashlib.sha256(data).hexdigest()}", "{hashes[0]}", "{hashes[1]}"),')
    data = (folder / "low-rank.wsp").read_bytes()
    content = content_hash(decode_low_rank(data)).hex()[:16]
    print(f'("{hashlib.sha256(data).hexdigest()}", "{content}")')
    for name in ["positional", "chebyshev", "tables", "direct"]:
        data = (folder / f"predictor-{name}.wsp").read_bytes()
        content = content_hash(decode_predictor(data)).hex()[:16]
        print(f'("{name}", "{hashlib.sha256(data).hexdigest()}", "{content}"),')



# Types of safetensors in the order of section 2.
TYPES = ["F32", "F64", "F16", "BF16", "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"]


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    content = lambda offsets: data[start + offsets[0] : start + offsets[1]]
    return {n: (TYPES.index(t["dtype"]), t["shape"], content(t["data_offsets"])) for n, t in header.items()}


def write_safetensors(path, tensors):
    header, position = {}, 0
    for name, kind, shape, content in tensors:
        end = position + len(content)
        header[name] = {"dtype": TYPES[kind], "shape": shape, "data_offsets": [position, end]}
        position = end
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    contents = b"".join(content for _, _, _, content in tensors)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(header)) + header + contents)


def main():
    parser = argparse.ArgumentParser(description="Decode a .wsp file.")
    parser.add_argument("file", nargs="?")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--base", help="safetensors file that a difference is added to")
    parser.add_argument("--key", help="file of a key of 32 bytes")
    arguments = parser.parse_args()
    if arguments.file is None:
        return print_golden()
    data = pathlib.Path(arguments.file).read_bytes()
    base = read_safetensors(arguments.base) if arguments.base else {}
    key = pathlib.Path(arguments.key).read_bytes() if arguments.key else None
    decoders = [decode_quantized, lambda data: decode(data, base, key, 99), decode_predictor, decode_low_rank]
    tensors = decoders[data[5]](data)
    if arguments.output:
        write_safetensors(arguments.output, tensors)
    print(content_hash(tensors).hex())


if __name__ == "__main__":
    sys.exit(main())
