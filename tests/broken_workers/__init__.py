"""Ways in which a worker's parent goes wrong, brought in as a catalog package by the environment.

`BROKEN_WORKER` names a folder; a file in it, named as the fault, makes the fault begin.
"""
