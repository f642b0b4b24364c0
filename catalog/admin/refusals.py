"""How the admin shows that a valid form could not be saved, or a row not deleted.

Others write concurrently, and a database may abort a write for their sake. Nothing has been changed then: the form is
shown again with all that was entered, and a deletion asks for confirmation again.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import IntegrityError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from catalog.admin.shown import ShownAdmin, ShownForm
from catalog.curation.slugs import SlugTakenError
from keybits.transactions import WriteRefusedError

__all__ = ["GIVEN_UP", "RefusalAdmin", "RefusalForm", "why"]

GIVEN_UP = (OperationalError, WriteRefusedError)
"""The errors of a write aborted for the sake of others (a deadlock, SQLite's lock), or for an unreachable store."""


class RefusalForm(ShownForm):
    """A form that shows the reason why saving it was refused as an error."""

    refusal: ValidationError | None = None

    def clean(self) -> Any:
        cleaned = super().clean()
        if self.refusal is not None:
            self.add_error(None, self.refusal)
        return cleaned


class RefusalAdmin(ShownAdmin):
    """An admin that shows why a form or a deletion was refused."""

    form = RefusalForm
    refusals: tuple[type[Exception], ...] = (IntegrityError, ObjectDoesNotExist, *GIVEN_UP)
    """The errors after which nothing has been changed."""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Show the form, again where saving it was refused."""
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except self.refusals as error:
            request.__dict__["_refusal"] = _refusal(error)
            return super().changeform_view(request, object_id, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = request.__dict__.get("_refusal")
        return form

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Delete the row; where that is refused, ask for confirmation again."""
        try:
            return super().delete_view(request, *args, **kwargs)
        except self.refusals as error:
            return self.nothing_changed(request, error)

    def nothing_changed(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Show why, and redirect to the page that the request was sent from."""
        self.message_user(request, f"Nothing was changed. {why(error)}", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())


def _refusal(error: Exception) -> ValidationError:
    if isinstance(error, ValidationError):
        return ValidationError(error.messages)
    return ValidationError({"slug": str(error)} if isinstance(error, SlugTakenError) else why(error))


def why(error: Exception) -> str:
    """Return, in sentences, why a write was refused."""
    if isinstance(error, IntegrityError | ObjectDoesNotExist):
        return "Somebody else has changed or deleted something that this is about. Look again."
    if isinstance(error, OperationalError):
        return "Others were writing the same rows. Send it again."
    if isinstance(error, OSError):
        return f"The storage of pictures has failed: {error.strerror}."
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
