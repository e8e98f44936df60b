"""Makes the golden files beside this script, with readers that share no code with the crate.

python make.py DATA    DATA holds cifar-10-batches-bin and cifar-100-binary; needs Pillow for the JPEG files

cifar10.bin, cifar100.bin: the first test picture, [C, H, W].
pictures.idx3.gz, labels.idx1.gz: three pictures of 2x4 pixels, value 100 n + 10 y + x, labels 2, 0, 1.
flat.jpg, flat.bin: flat 16x16 blocks on 64x64 pixels, no chroma subsampling. The colours survive JPEG exactly, so any
right decoder gives the bytes [C, H, W] of flat.bin.
grey.jpg, grey.bin: flat 8x8 blocks with one channel, bytes [H, W], exact too.
smooth.jpg, smooth.bin: a smooth colour picture with 4:2:0 subsampling, as libjpeg decodes it.
"""

import gzip
import pathlib
import struct
import sys

from PIL import Image

HERE = pathlib.Path(__file__).parent


def cifar(name, file, labels):
    record = file.open("rb").read(labels + 3072)
    picture = Image.new("RGB", (32, 32))
    for y in range(32):
        for x in range(32):
            at = labels + 32 * y + x
            picture.putpixel((x, y), (record[at], record[at + 1024], record[at + 2048]))
    (HERE / name).write_bytes(planes(picture))


def idx(name, kind, extents, values):
    header = bytes([0, 0, kind, len(extents)]) + struct.pack(f">{len(extents)}I", *extents)
    (HERE / name).write_bytes(gzip.compress(header + bytes(values), mtime=0))


def planes(picture):
    return b"".join(channel.tobytes() for channel in picture.split())


def jpeg(name, picture, **options):
    path = HERE / f"{name}.jpg"
    picture.save(path, **options)
    decoded = Image.open(path)
    decoded.load()
    (HERE / f"{name}.bin").write_bytes(planes(decoded))
    return decoded


def exact(colour):
    """Whether rounding to YCbCr and back moves no channel by more than 0.2."""
    r, g, b = colour
    y = round(0.299 * r + 0.587 * g + 0.114 * b)
    cb = round(128 - 0.168736 * r - 0.331264 * g + 0.5 * b)
    cr = round(128 + 0.5 * r - 0.418688 * g - 0.081312 * b)
    back = (
        y + 1.402 * (cr - 128),
        y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
        y + 1.772 * (cb - 128),
    )
    return all(abs(a - b) < 0.2 for a, b in zip(colour, back))


def flat():
    steps = range(0, 256, 15), range(0, 256, 17), range(0, 256, 13)
    colours = [(r, g, b) for r in steps[0] for g in steps[1] for b in steps[2] if exact((r, g, b))]
    picture = Image.new("RGB", (64, 64))
    for block in range(16):
        x, y = block % 4 * 16, block // 4 * 16
        picture.paste(colours[block * len(colours) // 16], (x, y, x + 16, y + 16))
    return picture


def grey():
    picture = Image.new("L", (64, 64))
    for block in range(64):
        x, y = block % 8 * 8, block // 8 * 8
        picture.paste(block * 37 % 256, (x, y, x + 8, y + 8))
    return picture


def smooth():
    picture = Image.new("RGB", (64, 64))
    for y in range(64):
        for x in range(64):
            picture.putpixel((x, y), (4 * x, 4 * y, 2 * (x + 63 - y)))
    return picture


def main():
    data = pathlib.Path(sys.argv[1])
    cifar("cifar10.bin", data / "cifar-10-batches-bin" / "test_batch.bin", 1)
    cifar("cifar100.bin", data / "cifar-100-binary" / "test.bin", 2)
    values = [100 * n + 10 * y + x for n in range(3) for y in range(2) for x in range(4)]
    idx("pictures.idx3.gz", 8, (3, 2, 4), values)
    idx("labels.idx1.gz", 8, (3,), (2, 0, 1))
    assert planes(jpeg("flat", flat(), quality=100, subsampling=0)) == planes(flat())
    assert planes(jpeg("grey", grey(), quality=100)) == planes(grey())
    jpeg("smooth", smooth(), quality=90, subsampling=2)


main()
