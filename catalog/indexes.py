"""Which rows an index contains, where that differs between databases."""

from __future__ import annotations

from typing import Any

from django.db import models

__all__ = ["SelectiveIndex"]


class SelectiveIndex(models.Index):
    """An index of the rows that meet its condition on PostgreSQL, and of all rows elsewhere.

    SQLite does not infer that `state = 'failed'` implies `state <> 'ready'`, and would not use a partial index.
    """

    def _get_condition_sql(self, model: Any, schema_editor: Any) -> Any:
        if schema_editor.connection.vendor != "postgresql":
            return None
        return super()._get_condition_sql(model, schema_editor)  # type: ignore[misc]
