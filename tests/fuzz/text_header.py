"""Damage to files whose header is text, such as MetaImage and NRRD: a line of it, or the voxels behind it."""

from collections.abc import Callable
from random import Random

from tests.fuzz.damage import BYTES

WORDS = (
    *("", "0", "1", "-1", "2", "3", "4", "7", "16", "1e9", "2147483648", "99999999999999999999", "nan", "inf", "-inf", "0.5"),
    *("1e-30", "1e30", "None", "none", "True", "False", "LOCAL", "LIST", "/etc/passwd", "../kept", "slice%03d.raw", "raw"),
    *("gzip", "bzip2", "ascii", "hex", "little", "big", "float", "double", "block", "MET_UCHAR", "MET_DOUBLE", "MET_OTHER"),
    *("uint8", "left-posterior-superior", "RAS", "scanner-xyz", "3D-right-handed", "(0,0,0)", "(1,0)", "x" * 5000, "ü", "\0"),
)  # fmt: skip


def damage_line(header: bytes, draw: Random) -> tuple[bytes, str]:
    """Return a header of which a line is missing, comes twice, or has another word in it, and what was done."""
    lines = header.decode("latin-1").split("\n")
    place = draw.randrange(len(lines))
    way = draw.choice(("word", "word", "word", "word", "drop", "twice", "swap", "key"))
    if way == "drop":
        del lines[place]
    elif way == "twice":
        lines.insert(place, lines[draw.randrange(len(lines))])
    elif way == "swap":
        other = draw.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    elif way == "key":
        lines[place] = draw.choice(WORDS) + lines[place][draw.randrange(len(lines[place]) + 1) :]
    else:
        words = lines[place].split(" ")
        words[draw.randrange(len(words))] = draw.choice(WORDS)
        lines[place] = " ".join(words)
    return "\n".join(lines).encode("latin-1"), f"{way} line {place}: {lines[min(place, len(lines) - 1)][:80]!r}"


def damage(data: bytes, last: bytes, packed: bool, repack: Callable[[bytes], bytes], draw: Random) -> tuple[bytes, str]:
    """Damage a file.

    Args:
        data: its content.
        last: bytes after which the voxels begin.
        packed: whether they are compressed.
        repack: unpacked voxels → packed ones.
        draw: source of every choice.
    """
    start = data.index(last) + len(last)
    header, body = data[:start], data[start:]
    way = draw.random()
    if way < 0.6:
        header, done = damage_line(header, draw)
        if draw.random() < 0.2:
            header, more = damage_line(header, draw)
            done += f", {more}"
        return header + body, done
    if packed and way < 0.7:
        more = draw.choice((b"", bytes(100), bytes(2**26), draw.randbytes(5000)))
        return header + repack(more), f"{len(more)} packed bytes instead"
    change = draw.choice(BYTES)
    return (
        (header + change(body, draw), f"voxels: {change.__name__}")
        if way < 0.85
        else (
            change(data, draw),
            f"file: {change.__name__}",
        )
    )
