"""A digest inside of what it is of: a dict of plain values that notices when it is changed."""

import hashlib
import json

NAME = "digest"


def digest(content):
    """The SHA-256 of `json.dumps(content)`, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def sealed(content):
    """A dict with a last entry, `digest`, that is the digest of all others."""
    return {**content, NAME: digest(content)}


def opened(content, path):
    """A sealed dict without its digest; one that has none, as it is.

    Args:
        content: Dict. Where its digest is None it is not checked: so someone says that a change was
            meant.
        path: The file that it was read from, for the message.

    Raises:
        ValueError: It is not what was sealed.
    """
    rest = {name: value for name, value in content.items() if name != NAME}
    stored = content.get(NAME)
    # Of a digest whose own name is damaged the place is left.
    *others, (_, last) = rest.items() or [(None, None)]
    renamed = last is not None and last == digest(dict(others))
    if renamed or (stored is not None and stored != digest(rest)):
        raise ValueError(
            f"'{path}' is damaged: its content does not have its digest. Bring it back from a "
            'copy, or make it anew; if it was changed on purpose, set its "digest" to null.'
        )
    return rest
