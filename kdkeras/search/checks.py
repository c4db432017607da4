"""What is looked at before a search trains or writes anything."""

from kdkeras import files, stages
from kdkeras.search import settings, spaces, studies, trying

MODELS = ("method", "teacher", "student", "student_width")
# What a search writes, and all that `overwrite` removes.
OWN = (
    *("recipe.json", "results.json", "trials.csv", "search.html", "best", "teacher", "caches"),
    *("winner", "default", "locks", *(studies.FILE + end for end in studies.BESIDE)),
)


def recipe(given):
    """Refuses settings of a recipe that a search cannot have."""
    for name, only in (("strategy", "none"), ("seeds", 1)):
        if getattr(given, name) != only:
            raise ValueError(
                f"`{name}` must be {only!r} in a search, whose trials are of one device and one "
                f"seed (`compare_seeds` is of several). Received: {name}={getattr(given, name)!r}"
            )


def space(entries, given, splits):
    """Refuses a space that does not fit the recipe or the data, and builds what it would train.

    Args:
        entries: As of `kdkeras.search.spaces.parse`.
        given: `kdkeras.Recipe`.
        splits: `kdkeras.data.Splits`.

    Returns:
        Dict from methods to the weights of their terms; empty unless some are searched.
    """
    weighed = [entry for entry in entries if entry.name.startswith("weight_")]
    if weighed and given.term_weights is not None:
        raise ValueError(
            f"`term_weights` is fixed and {weighed[0].name} is in `space` too: leave one out."
        )
    for entry in entries:
        if entry.name == "teacher" and not all(end.endswith(".keras") for end in entry.ends):
            raise ValueError(
                "In `space` teachers must be .keras files (kdkeras train makes them). Received: "
                f"{entry.text!r}"
            )
    own = {}
    plain = [entry for entry in entries if entry not in weighed]
    spaces.check(plain, lambda chosen: settings.refusal(given, chosen))
    for made in corners([entry for entry in plain if entry.name in MODELS], given):
        built = stages.build(made, splits, trying.names_of(made))
        if weighed:
            own[made.method] = [term.weight for term in stages.terms(built, made, splits)]
    if weighed:
        spaces.check(entries, lambda chosen: settings.refusal(given, chosen, own))
    return own


def corners(entries, given):
    """Recipes that have each choice, and the ends of each range, once."""
    found = [given] if not any(entry.name == "teacher" for entry in entries) else []
    for entry in entries:
        for end in entry.ends:
            if settings.refusal(given, {entry.name: end}) is None:
                found.append(settings.applied(given, {entry.name: end}))
    if any(entry.name == "teacher" for entry in entries):
        found = [one for one in found if one.teacher.endswith(".keras")]
    return [one for i, one in enumerate(found) if one not in found[:i]]


def claim(folder):
    """Refuses a work directory that is not new, empty or a search's.

    Returns:
        The names of what stands there.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`workdir` must be a folder. Received: '{folder}', which is a file.")
    there = folder.iterdir() if folder.exists() else []
    # What a process that was killed had half written is no matter.
    names = sorted(path.name for path in there if not files.TEMPORARY.fullmatch(path.name))
    foreign = [name for name in names if name not in OWN]
    if foreign or (names and "locks" not in names):
        raise ValueError(
            f"`workdir` must be new, empty, or a search's. Received: '{folder}', which holds "
            f"{', '.join((foreign or names)[:5])}. Give another `workdir`."
        )
    return names


def same_teachers(study, digests, folder):
    """Refuses teachers, or a cache, that are not those with which the study began."""
    before = study.user_attrs.get("teachers")
    if before is None:
        study.set_user_attr("teachers", sorted(digests.values()))
    elif before != sorted(digests.values()):
        raise ValueError(
            f"The study of '{folder}' has another teacher than {', '.join(digests) or 'none'}. "
            "Give `teacher`, the file that it began with, or another `workdir`, or `overwrite`."
        )
