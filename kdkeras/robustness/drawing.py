"""Pictures of a report: adversarial examples, and accuracy against epsilon."""

import numpy as np

from kdkeras import files


def adversarial(path, clean, perturbed, labels, before, after, names=None):
    """Writes a grid: clean pictures, what was added to them (amplified), and the sum.

    Args:
        path: The PNG file to write.
        clean, perturbed: Arrays `(n, height, width, channels)`.
        labels, before, after: Integer arrays `(n,)`: the label, and what the model says of the
            clean and of the perturbed picture.
        names: Optional class names.
    """
    named = (lambda label: names[label]) if names else str
    change = perturbed - clean
    largest = float(np.abs(change).max())
    factor = max(1, round(0.5 / largest)) if largest else 1
    figure = _figure((1.3 * len(clean) + 1.0, 4.6))
    axes = figure.subplots(3, len(clean), squeeze=False)
    rows = (
        (
            clean,
            [f"label {named(a)}\nsaid {named(b)}" for a, b in zip(labels, before, strict=True)],
        ),
        (np.clip(0.5 + factor * change, 0.0, 1.0), [""] * len(clean)),
        (perturbed, [f"said {named(b)}" for b in after]),
    )
    for row, (pictures, titles) in enumerate(rows):
        for column, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
            place = axes[row, column]
            place.imshow(_shown(picture), cmap="gray", vmin=0.0, vmax=1.0)
            place.set_title(title, fontsize=8)
            place.set_xticks([])
            place.set_yticks([])
    for row, text in enumerate(("clean", f"added, x {factor}", "adversarial")):
        axes[row, 0].set_ylabel(text, fontsize=8)
    _write(figure, path)


def curve(path, points, epsilon, norm):
    """Writes a plot of accuracy against epsilon.

    Args:
        path: The PNG file to write.
        points: List of dicts of `epsilon` and `accuracy`, ascending.
        epsilon: The report's, which is marked.
        norm: "linf" or "l2".
    """
    from matplotlib.ticker import NullLocator

    figure = _figure((5.6, 3.6))
    axes = figure.subplots()
    unit = 255.0 if norm == "linf" else 1.0
    places = [unit * point["epsilon"] for point in points]
    axes.plot(places, [100.0 * point["accuracy"] for point in points], marker="o")
    axes.axvline(unit * epsilon, color="grey", linestyle="--", linewidth=1)
    axes.set_xscale("symlog", base=2, linthresh=places[1])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, [f"{place:.3g}" for place in places], minor=False)
    axes.set_xlim(left=0.0)
    axes.set_ylim(0.0, 100.0)
    axes.set_xlabel("epsilon, in 1/255 (largest change of a pixel)" if unit > 1 else "epsilon (L2)")
    axes.set_ylabel("accuracy under PGD-20 margin, %")
    axes.grid(alpha=0.3)
    _write(figure, path)


def plot_certificates(path, found, labels):
    """Writes a plot of certified accuracy against the L2 radius.

    Args:
        path: The PNG file to write.
        found: Dict from names to `kdkeras.certification.Certificates`.
        labels: Integer array, one an image.
    """
    figure = _figure((5.6, 3.6))
    axes = figure.subplots()
    radii = np.linspace(0.0, 1.05 * max(max(one.radius) for one in found.values()) + 1e-3, 400)
    for name, certificates in found.items():
        axes.plot(radii, 100.0 * certificates.certified_accuracy(labels, radii), label=name)
    axes.set_xlim(left=0.0)
    axes.set_ylim(0.0, 100.0)
    axes.set_xlabel("radius (L2, pixels in [0, 1])")
    axes.set_ylabel("certified accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _write(figure, path)


def _figure(size):
    # Not pyplot, which keeps a global state and looks for a display.
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="tight")


def _write(figure, path):
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _shown(picture):
    """A picture as matplotlib takes it: one channel or three, in [0, 1]."""
    picture = np.clip(picture, 0.0, 1.0)
    return picture if picture.shape[-1] == 3 else picture[..., 0]
