"""The kind of a file, by its first bytes; and the advice for a file that is not read."""

import re
import shlex

HEAD = 2**16  # bytes that tell what a file is: a header with the names of 784 pixels takes 7,000
LEAST_COLUMNS = 64  # of a table of images: the least image has 8x8 pixels
PICTURE_SUFFIXES = set(  # heic and heif are refused by name
    """
    .png .jpg .jpeg .jpe .jfif .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .tga .pcx .jp2 .j2k .avif .ico .icns
    .dds .apng .psd .qoi .sgi .ras .xbm .xpm .msp .heic .heif
    """.split()  # noqa: SIM905 - as a list it has 33 lines
)
# The first bytes of a file, and what it is.
MAGIC = (
    (rb"\x1f\x8b", "gzip"),
    (rb"PK(\x03\x04|\x05\x06)", "zip"),
    (rb"\x93NUMPY", "npy"),
    (rb"\x89HDF\r\n\x1a\n|MATLAB 7\.3", "hdf5"),
    (rb"MATLAB 5\.0", "mat"),
    (rb"PAR1", "parquet"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\x00{4}|II\*\x00|MM\x00\*|RIFF.{4}WEBP|P[1-6]\s|.{4}ftypavif", "picture"),
    (rb"\x80[\x02-\x05]|\(dp|\(lp|c(numpy|copy_reg|__builtin__)", "pickle"),
    (rb"%PDF", "pdf"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "postscript"),
    (rb"\s*<svg", "svg"),
    (rb".{4}ftyp(hei[cxms]|hevc|mif1|msf1)", "heic"),
    (rb"\x00\x00[\x08\x09\x0b-\x0e][\x01-\x04]", "idx"),
    (rb"\s*<(!doctype html|html|head|\?xml)", "html"),
    (rb"version https://git-lfs", "lfs"),
    (rb"\xff\xfe|\xfe\xff", "utf-16"),
    (rb"7z\xbc\xaf", "7z"),
    (rb"Rar!", "rar"),
    (rb"\xfd7zXZ|BZh|\x28\xb5\x2f\xfd", "compressed"),
    (rb".{257}ustar", "tar"),
    (rb"ARROW1", "arrow"),
    (rb"SQLite format 3", "sqlite"),
)
# Kinds that are not read: their names, and the advice; FILE stands for the path.
REFUSED = {
    "pickle": "a Python pickle, which is never loaded, for it can run code; in Python, save its arrays with "
    "np.savez('digits.npz', images=..., labels=...), then data=file data.path=digits.npz",
    "html": "a web page, not data: the download asks for a login or has another address; get the file in a browser",
    "lfs": "a git-LFS pointer, not data: run git lfs pull in its folder",
    "utf-16": "UTF-16 text, and UTF-8 is expected: iconv -f UTF-16 -t UTF-8 FILE > utf8.csv",
    "7z": "a 7z archive, which is not read: 7z x FILE -oFOLDER, then data.path=FOLDER",
    "rar": "a RAR archive, which is not read: unrar x FILE FOLDER/, then data.path=FOLDER",
    "compressed": "a file compressed with xz, bzip2 or zstd, which is not read: unpack it, then give what comes out",
    "encrypted": "an encrypted zip: 7z x FILE -oFOLDER asks for its password, then data.path=FOLDER",
    "Deflate64": "packed with Deflate64, which is not read: 7z x FILE -oFOLDER, then data.path=FOLDER",
    "packed": "packed in a way that is not read: 7z x FILE -oFOLDER, then data.path=FOLDER",
    "office": "a file of Excel or the like, which is not read: save the table as CSV",
    "tar": "a tar archive, which is not read: mkdir FOLDER && tar -xf FILE -C FOLDER, then data.path=FOLDER",
    "zip": "a zip in a zip or folder: unpack it, then give its folder",
    "arrow": "an Arrow file, which is not read: save it with the method to_parquet of its data set",
    "sqlite": "a database: export the images as CSV with a pixel in each column",
    "pdf": "a PDF; save it as PNG or JPEG",
    "postscript": "PostScript; save it as PNG or JPEG",
    "svg": "an SVG drawing; save it as PNG or JPEG",
    "heic": "HEIC, which Pillow cannot read; save it as PNG or JPEG",
    "empty": "an empty file: is the download complete?",
}


def refusal(kind: str, where: str) -> str:
    """Return the message for a file that is not read, with the command that helps."""
    return f"{where}: {REFUSED[kind].replace('FILE', shlex.quote(where))}"


def kind_of(head: bytes) -> str:
    """Return what a file is by its first bytes: a kind of `MAGIC`, or `empty`, `table`, `text` or `unknown`."""
    if not head:
        return "empty"
    for pattern, kind in MAGIC:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE if kind == "html" else re.DOTALL):
            return kind
    if b"\0" in head:
        odd, even = head[1:200:2], head[0:200:2]  # UTF-16 without its mark
        return "utf-16" if {0} in (set(odd), set(even)) and set(odd) != set(even) else "unknown"
    first = next((line for line in head.splitlines() if line.strip()), b"")
    columns = max(len(first.split(mark)) for mark in (b",", b";", b"\t", None))
    return "table" if columns >= LEAST_COLUMNS else "text"
