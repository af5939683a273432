"""Let the garbage collector pass over what a process keeps for life."""

import gc


def pass_over_startup() -> None:
    """Call it when a long-lived process has loaded everything, before it works or forks.

    The first full collection of a process that has loaded Django reads all of that, some 0.2 s in
    which no other thread of it runs (seen in web: every request of that moment waited), and in a
    forked child it copies every page it marks. Frozen, all of it is left out for good.
    """
    gc.collect()
    gc.freeze()
