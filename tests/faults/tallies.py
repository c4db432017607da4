"""What came of the faults of one family."""

import dataclasses


@dataclasses.dataclass
class Tally:
    """How many faults of a family were tried, and which of them did harm.

    A fault is survived where the command goes on to the right result, or refuses in one sentence
    that names what is wrong. It is lost where something was lost, a wrong result was taken for a
    right one, a traceback surfaced, or nothing came back.

    Attributes:
        family: What was done, in a few words.
        tried: How many faults.
        lost: List of strings, one for each that was not survived: what it was, with its seed.
        note: What else there is to say.
    """

    family: str
    tried: int = 0
    lost: list = dataclasses.field(default_factory=list)
    note: str = ""

    def add(self, problem=None):
        """Counts one fault; with `problem`, a string, as one that did harm."""
        self.tried += 1
        if problem is not None:
            self.lost.append(problem)

    def line(self, seed, seconds):
        """The line that the command prints."""
        survived = self.tried - len(self.lost)
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.family}: {self.tried} tried, {survived} survived, {len(self.lost)} lost "
            f"(seed {seed}, {seconds:.0f} s{note})"
        )
