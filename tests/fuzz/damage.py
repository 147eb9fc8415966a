"""Random damage: of bytes, of TIFF's tags, of PNG's chunks, of zips' members, and of JSON's values."""

import io
import json
import math
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 60000, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 0.5, -1e300, 1e999, math.nan, 10**9, 2**63, 10**400),
    *("", "a", "\0", "\n\033[31m", "../../etc/passwd", "nan", "1e9", "torch.nn.ReLU", "os.system", "é" * 999, "{}"),
    *([], {}, [[]], [None], {"class_path": "os.system"}, {"": None}, ["a"] * 99, [[1, 2], [3]]),
)
Damage = Callable[[random.Random, bytes], bytes]


def flip(rng: random.Random, data: bytes) -> bytes:
    """A few bytes, here and there or side by side."""
    changed = bytearray(data)
    start, spread = rng.randrange(len(data)), rng.choice([4, 64, len(data)])
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        changed[(start + rng.randrange(spread)) % len(data)] = rng.choice([0, 255, rng.randrange(256)])
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """The beginning alone, often nearly all of it."""
    return data[: -rng.choice([1, 2, 8, rng.randrange(1, len(data) + 1)])]


def splice(rng: random.Random, data: bytes) -> bytes:
    """A part left out, twice, or at another place."""
    a, b, c = (rng.randrange(len(data) + 1) for _ in range(3))
    a, b = min(a, b), max(a, b)
    return rng.choice([data[:a] + data[b:], data[:b] + data[a:], data[:c] + data[a:b] + data[c:]])


def number(rng: random.Random, data: bytes) -> bytes:
    """A number of 16, 32 or 64 bit, most often near the beginning or the end."""
    coded = struct.pack(rng.choice("<>") + rng.choice("HIQ"), rng.choice(NUMBERS) & 0xFFFF)
    if len(coded) > 2:
        coded = struct.pack(rng.choice("<>") + "IQ"[len(coded) == 8], rng.choice(NUMBERS))
    end = rng.choice([min(256, len(data)), len(data)])
    place = rng.randrange(end)
    place = len(data) - place - 1 if rng.random() < 0.3 else place
    return data[:place] + coded + data[place + len(coded) :]


def tag(rng: random.Random, data: bytes) -> bytes:
    """A tag of a TIFF: its kind, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return flip(rng, data)
    (place,) = struct.unpack(order + "I", data[4:8])
    if place + 2 > len(data):
        return flip(rng, data)
    (count,) = struct.unpack(order + "H", data[place : place + 2])
    entry = place + 2 + 12 * rng.randrange(max(count, 1))
    offset, form, values = rng.choice(
        [
            (0, "H", range(254, 340)),
            (2, "H", range(20)),
            (4, "I", NUMBERS),
            (8, "I", NUMBERS),
            (8, "I", range(len(data))),
        ]
    )
    coded = struct.pack(order + form, rng.choice(values))
    return data[: entry + offset] + coded + data[entry + offset + len(coded) :]


def chunk(rng: random.Random, data: bytes) -> bytes:
    """A chunk of a PNG, with the checksum that it has then."""
    if data[:4] != b"\x89PNG":
        return flip(rng, data)
    places, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        places.append((place, length))
        place += 12 + length
    place, length = rng.choice(places[:1] * 3 + places)
    body = data[place + 4 : place + 8 + length]
    body = body[:4] + (rng.choice([flip, number, cut])(rng, body[4:]) if length else b"x")
    end = struct.pack(">I", zlib.crc32(body))
    return data[:place] + struct.pack(">I", len(body) - 4) + body + end + data[place + 12 + length :]


def member(rng: random.Random, data: bytes) -> bytes:
    """A member of a zip: its content or its name, with the checksum that it has then."""
    file = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(file, "w") as after:
            entries = before.infolist()
            chosen = rng.randrange(len(entries))
            for k, entry in enumerate(entries):
                name, content = entry.filename, before.read(entry)
                if k == chosen and rng.random() < 0.2:
                    name = rng.choice(
                        [f"../{name}", f"/{name}", name.upper(), "a\n\033[31m", "a\\..\\b", name * 20, ""]
                    )
                elif k == chosen and content:
                    content = anyhow(rng, content)
                after.writestr(name, content, rng.choice([entry.compress_type, zipfile.ZIP_DEFLATED]))
    # It was damaged before.
    except Exception:
        return flip(rng, data)
    return file.getvalue()


def value(rng: random.Random, data: bytes) -> bytes:
    """A value, or the key of one, anywhere in a JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return flip(rng, data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        content = _changed(rng, content)
    return json.dumps(content).encode()


def _changed(rng: random.Random, content: Any) -> Any:
    if not content or not isinstance(content, dict | list) or rng.random() < 0.1:
        if isinstance(content, int | float) and abs(content) < 2**64 and rng.random() < 0.5:
            return rng.choice([-content, content * 1000, content + 0.5, str(content), [content]])
        return deepcopy(rng.choice(VALUES))
    key = rng.choice(list(content) if isinstance(content, dict) else range(len(content)))
    if isinstance(content, dict) and rng.random() < 0.1:
        taken = content.pop(key)
        return content if rng.random() < 0.5 else {**content, str(rng.choice(VALUES)): taken}
    content[key] = _changed(rng, content[key])
    return content


def line(rng: random.Random, data: bytes) -> bytes:
    """A cell or a line of a table or a YAML: another value, left out, or twice."""
    lines = data.split(b"\n")
    k = rng.randrange(len(lines))
    if rng.random() < 0.3:
        lines[k : k + 1] = rng.choice([[], [lines[k]] * 2, [lines[k], b"\0"], [b" " + lines[k]]])
        return b"\n".join(lines)
    mark = rng.choice([b",", b": ", b" "])
    cells = lines[k].split(mark)
    cells[rng.randrange(len(cells))] = str(rng.choice(VALUES)).encode()
    lines[k] = mark.join(cells)
    return b"\n".join(lines)


def anyhow(rng: random.Random, data: bytes, *special: Damage) -> bytes:
    """One to three of these damages, half of them of the special kinds."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if data:
            data = rng.choice(special if special and rng.random() < 0.6 else (flip, cut, splice, number))(rng, data)
    return data
