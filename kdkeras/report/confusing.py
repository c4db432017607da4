"""What the student takes for what, and where it differs from its teacher."""

import numpy as np

from kdkeras.report import matrices, page, plots, words

ROWS = 12


def part(run):
    """Confusion of the student, and how it differs from the teacher's; None without a student."""
    if "student" not in run.logits:
        return None
    student = confusion(run.labels, run.logits["student"])
    teacher = None
    if "teacher" in run.logits:
        teacher = confusion(run.labels, run.logits["teacher"])
    blocks = [page.text(_said(run, student))]
    if len(run.classes) <= matrices.MOST:
        blocks.append(_maps(run.classes, student, teacher))
    else:
        blocks.append(_table(run.classes, student, teacher))
    if teacher is not None:
        blocks.extend(_lost(run))
    return page.part("Where the student is wrong", *blocks)


def confusion(labels, logits):
    """How many images of each class (row) are taken for each class (column)."""
    classes = logits.shape[-1]
    found = np.zeros((classes, classes), np.int64)
    np.add.at(found, (labels, logits.argmax(axis=-1)), 1)
    return found


def _said(run, student):
    wrong = int(student.sum() - np.trace(student))
    if not wrong:
        return f"The student is right on all {len(run.labels):,} test images."
    pairs = matrices.largest(student, 3)
    told = words.listed(
        f"{run.classes[row]} taken for {run.classes[column]} ({student[row, column]})"
        for row, column in pairs
    )
    return (
        f"The student is wrong on {wrong:,} of {len(run.labels):,} test images; most often {told}."
    )


def _maps(classes, student, teacher):
    wrong = int(student.sum() - np.trace(student))
    pairs = matrices.largest(student, 1)
    most = "".join(
        f" Most often {classes[r]} is taken for {classes[c]}: {student[r, c]}." for r, c in pairs
    )
    maps = [
        matrices.heat(
            student,
            classes,
            title="Student",
            axes_titles=("truth", "what the student says"),
            form=lambda value: f"{value:.0f}" if value else "",
            alt=f"Confusion of the student, {wrong} of {student.sum()} images wrong.{most}",
            pale=True,
        )
    ]
    caption = "Number of test images; the diagonal, where it is right, is left out of the colours."
    if teacher is not None:
        difference = student - teacher
        off = difference - np.diag(np.diag(difference))
        more, fewer = int(off[off > 0].sum()), int(-off[off < 0].sum())
        maps.append(
            matrices.heat(
                difference,
                classes,
                title="Student less teacher",
                axes_titles=("truth", "what they say"),
                form=lambda value: words.points(value / 100.0, "+.0f") if value else "",
                alt=(
                    "Confusion of the student less the teacher's: off the diagonal "
                    f"{more} images more and {fewer} fewer."
                ),
                below=plots.OCHRE,
            )
        )
        caption += (
            " Student less teacher: how many more (blue, +) or fewer (ochre, \u2212) it has than "
            "its teacher; blue off the diagonal are mistakes that the teacher does not make."
        )
    return page.figure(maps, caption)


def _table(classes, student, teacher):
    pairs = matrices.largest(student, ROWS)
    header = ["Truth", "Taken for", "Student", *(["Teacher"] if teacher is not None else [])]
    rows = []
    for row, column in pairs:
        counts = [student, *([teacher] if teacher is not None else [])]
        numbers = [f"{one[row, column]:,}" for one in counts]
        rows.append([classes[row], classes[column], *numbers])
    said = f"The {len(rows)} most frequent confusions of the student, in test images."
    return page.table(header, rows, said) if rows else page.text("It confuses nothing.")


def _lost(run):
    """Classes in which the teacher is right and the student is not."""
    right = {role: run.logits[role].argmax(axis=-1) == run.labels for role in run.logits}
    lost = right["teacher"] & ~right["student"]
    won = right["student"] & ~right["teacher"]
    said = page.text(
        f"The teacher alone is right on {int(lost.sum()):,} images, the student alone on "
        f"{int(won.sum()):,}."
    )
    counts = np.bincount(run.labels, minlength=len(run.classes))
    of_class = [np.bincount(run.labels[one], minlength=len(counts)) for one in (lost, won)]
    order = np.argsort(-of_class[0], kind="stable")[:ROWS]
    rows = [
        [run.classes[i], f"{counts[i]:,}", f"{of_class[0][i]:,}", f"{of_class[1][i]:,}"]
        for i in order
        if of_class[0][i]
    ]
    if not rows:
        return [said]
    header = ["Class", "Images", "Teacher alone right", "Student alone right"]
    return [said, page.table(header, rows, "By class, where the student lost most first.")]
