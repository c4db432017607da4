"""The command that shows what runs found."""

from kdkeras import report as reports


def report(settings, paths):
    """`kdkeras report`: one HTML file of a run, or of several beside one another."""
    if not paths:
        raise ValueError("Name the work directories to report on: kdkeras report RUN ...")
    wanted = {name: settings[name] for name in ("output", "overwrite", "pictures")}
    written = reports.write(paths, **wanted)
    print(f"Written: {written}, {written.stat().st_size / 1e6:.1f} MB. Open it in a browser.")
    return 0
