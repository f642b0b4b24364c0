"""The rows, one module a subject; importing this registers them all, and `SECTIONS` is the order of the document."""

from __future__ import annotations

from conformance.rows import (
    attacks,
    caching,
    codings,
    deception,
    fields,
    junk,
    leaks,
    methods,
    preconditions,
    validators,
)

SECTIONS = (
    validators.SECTION,
    codings.SECTION,
    preconditions.SECTION,
    methods.SECTION,
    caching.SECTION,
    fields.SECTION,
    attacks.SECTION,
    deception.SECTION,
    leaks.SECTION,
    junk.SECTION,
    leaks.ADVISORIES,
)
