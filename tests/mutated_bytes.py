"""Documents with random damage: what a reader meets when a file is torn, mixed up or written by something else."""

import random
from collections.abc import Callable, Iterator, Sequence

_BIG_NUMBERS = (
    b"9" * 5_000,
    b"-" + b"1" * 400,
    b"1e400",
    b"1e999999999",
    b"0x" + b"f" * 5_000,
    b"-0",
    b"NaN",
    b"Infinity",
)
_DEEP = (
    b"[" * 100_000,
    b"{" * 20_000,
    b'{"a":' * 20_000,
    b"a = " + b"[" * 50_000,
    b"- " * 3_000,
    b"(" * 5_000,
)
_ODD = (
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\\ud800",
    b'"\\udfff"',
    b"\xed\xa0\x80",
    b"\xff",
    b"\xc3",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\t",
    b'"',
    b"'",
    b";",
    b",",
    b": ",
    b"#",
    b"&a *a",
    b"!!python/object:os.system",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"2001-01-01",
)
_BYTES_OF_STRUCTURE = b"[]{}()<>:,;=\"'\\\n\r\t #&*!-0123456789.eE\x00\x7f\x80\xff"

_Mutation = Callable[[bytes, Sequence[bytes], random.Random], bytes]


def mutations(documents: Sequence[bytes], *, count: int, seed: int) -> Iterator[bytes]:
    """Yield ``count`` damaged forms of ``documents``, the same for the same ``seed``.

    Each is one of the documents with one to four kinds of damage: flipped bits, other bytes, a cut end or beginning, a
    part gone, doubled or moved, a part of another document in its middle, huge numbers, thousands of brackets, byte
    order marks, NUL, lone surrogates, line ends of other systems, bytes that are no UTF-8, or another encoding.
    """
    if not documents:
        raise ValueError("there is no document to damage")
    rng = random.Random(seed)
    for _ in range(count):
        data = rng.choice(documents)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
            data = rng.choice(_MUTATIONS)(data, documents, rng)
        yield data


def _flip_bits(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if found else 0):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _other_bytes(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 2, 4)) if found else 0):
        found[rng.randrange(len(found))] = rng.choice(_BYTES_OF_STRUCTURE)
    return bytes(found)


def _truncate(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    cut = _place(data, rng)
    return data[:cut] if rng.random() < 0.8 else data[cut:]


def _delete(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    return data[:begin] + data[end:]


def _duplicate(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    return data[:end] + data[begin:end] * rng.choice((1, 1, 2, 16)) + data[end:]


def _move(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    rest = data[:begin] + data[end:]
    place = _place(rest, rng)
    return rest[:place] + data[begin:end] + rest[place:]


def _insert(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    place = _place(data, rng)
    added = rng.randbytes(rng.randrange(1, 9)) if rng.random() < 0.3 else rng.choice(_ODD)
    return data[:place] + added + data[place:]


def _splice(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(documents)
    begin, end = _span(other, rng)
    place = _place(data, rng)
    return data[:place] + other[begin:end] + data[place if rng.random() < 0.5 else _place(data, rng) :]


def _big_number(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    """Put a huge number where one stands, or anywhere where none does."""
    digits = [index for index, byte in enumerate(data) if 48 <= byte <= 57]
    begin = end = rng.choice(digits) if digits else _place(data, rng)
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:begin] + rng.choice(_BIG_NUMBERS) + data[end:]


def _deep(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    place = _place(data, rng)
    return data[:place] + rng.choice(_DEEP) + data[place:]


def _line_ends(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\r", b"\n\n", b"")))


def _encode(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    encoding = rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7"))
    return data.decode("latin-1").encode(encoding)


def _mark(data: bytes, documents: Sequence[bytes], rng: random.Random) -> bytes:
    return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00", b"\xef\xbb\xbf" * 2)) + data


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(len(data) + 1)


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    begin = _place(data, rng)
    longest = rng.choice((1, 4, 16, 64, 1024))
    return begin, min(len(data), begin + rng.randrange(longest + 1))


_MUTATIONS: tuple[_Mutation, ...] = (
    *(_flip_bits, _other_bytes, _truncate, _delete, _duplicate, _move, _insert, _splice) * 3,
    *(_big_number, _line_ends, _encode, _mark) * 2,
    _deep,
)
