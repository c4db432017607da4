"""The archive behind the network of a `.tflite` file: whether both are what was written."""

import hashlib
import json
import pathlib
import re
import zipfile

from kdkeras import files

# The settings in it, and what in them is the SHA-256 of the network.
ABOUT, DIGEST = "kdkeras.json", "network_sha256"
# How it begins.
BEGINNING = re.compile(rb"PK\x03\x04.{26}(labels.txt|kdkeras.json)", re.DOTALL)


def check(path):
    """Refuses a file whose archive has lost its end, or is damaged, or whose network is.

    A file without such an archive passes, and so does a network without a digest there.

    Args:
        path: A `.tflite` file.

    Raises:
        ValueError: What is wrong with it.
        OSError: It cannot be read.
    """
    contents = pathlib.Path(path).read_bytes()
    if not BEGINNING.search(contents):
        return
    if not zipfile.is_zipfile(path):
        raise ValueError("it is cut short: its end, with the class names, is not there")
    try:
        with zipfile.ZipFile(path) as archive:
            first = min(member.header_offset for member in archive.infolist())
            about = json.loads(archive.read(ABOUT)) if ABOUT in archive.namelist() else {}
            spoilt = archive.testzip()
            if spoilt is not None:
                raise ValueError(f"{spoilt} does not have its checksum")
    except files.DAMAGED as error:
        raise ValueError(f"its class names and settings are damaged ({error})") from error
    stored = about.get(DIGEST) if isinstance(about, dict) else None
    if stored not in (None, hashlib.sha256(contents[:first]).hexdigest()):
        raise ValueError("its network is damaged: it does not have its digest. Export it again.")
