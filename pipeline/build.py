"""The whole flow: ``python -m pipeline.build --year 2022``.

    granules -> cubes -> regrid -> transport -> inversion <-> learning -> 1 km -> product -> report

Each line of `build` is one stage; what a stage makes is named once and handed to the next. Everything that takes long is
a unit of work: run by any worker, kept in the ledger, not done twice.
"""

from __future__ import annotations
