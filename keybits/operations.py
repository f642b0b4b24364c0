"""Migration operations: `TrackChanges(model)` makes the database itself record the scopes that a change makes stale."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.base import Operation
from django.db.models import Model

from keybits import changes, triggers

__all__ = ["TrackChanges"]


class TrackChanges(Operation):
    """Install the triggers of one model, for its declared scopes or for those given here.

    Put it after the operations that create the model and what its scopes refer to. Later the triggers follow the
    declarations: at the end of each `migrate` they are made again where they differ.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, model_name: str, scopes: tuple[str, ...] | None = None) -> None:
        self.model_name = model_name
        self.scopes = scopes

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Do nothing: triggers are not part of a model's state."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        from keybits import invalidation  # noqa: PLC0415 - declarations are made when the apps are ready

        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            declared = invalidation.templates_of(app_label, self.model_name)
            _install(schema_editor, model, self.scopes or _that_can_be_followed(model, declared))

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            triggers.drop(schema_editor.connection, model)

    def describe(self) -> str:
        return f"Track changes of {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"track_{self.model_name.lower()}"


def _that_can_be_followed(model: type[Model], templates: tuple[str, ...]) -> tuple[str, ...]:
    """Return the templates whose columns exist; `migrate` makes triggers for later columns when it has ended."""
    return tuple(each for each in templates if not triggers.refusal(model, each))


def _install(schema_editor: Any, model: type[Model], templates: tuple[str, ...]) -> None:
    """Make the triggers, or only collect their statements for `sqlmigrate`.

    Where the record of changes does not exist yet, `migrate` makes them when it has ended.
    """
    if not schema_editor.collect_sql:
        if changes.is_kept(schema_editor.connection):
            triggers.sync(schema_editor.connection, model, templates)
        return
    for statement in triggers.statements(schema_editor.connection.vendor, model, templates):
        schema_editor.execute(statement, params=None)
