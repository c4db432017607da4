"""Which steps of a model have one range together."""

from kdkeras.quantization import graph


def places(order):
    """For each step the step whose range its output has.

    What is concatenated has one range: TFLite demands it, and a change of range would round again.

    Args:
        order: List of `graph.Step`.

    Returns:
        Dict of a step a step.

    Raises:
        ValueError: Pixels are concatenated with something of another range.
    """
    found, joined = {}, {}

    def root(place):
        while place in joined:
            place = joined[place]
        return place

    for step in order:
        if step.kind in (*graph.FIXED, *graph.RANGED):
            found[step] = step
            continue
        roots = dict.fromkeys(root(found[x]) for x in step.inputs)
        first, *others = sorted(roots, key=lambda place: place.kind in graph.FIXED)
        if others and others[-1].kind in graph.FIXED:
            raise ValueError(
                "`student` must not concatenate its pixels, whose range is fixed, with anything "
                f"else. Received: '{step.operation.name}', which does. Quantise it after training: "
                "kdkeras export --precision=int8."
            )
        joined.update(dict.fromkeys(others, first))
        for place in (first, *others) if others else ():
            place.alone = False
        found[step] = first
    return {step: root(place) for step, place in found.items()}
