"""What the staff does on the lists of the admin, and what it is told."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse


def act(client: Client, action: str, *rows: Any, address: str | None = None, **fields: Any) -> HttpResponse:
    """Choose the action for these rows in their list and, unless `confirmed` is None, confirm it."""
    chosen = {"action": action, "_selected_action": [row.pk for row in rows], "confirmed": len(rows)}
    data = {name: value for name, value in (chosen | fields).items() if value is not None}
    opts = rows[0]._meta
    at_the_list = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist")
    response: HttpResponse = client.post(address or at_the_list, data)
    return response


def told(response: HttpResponse) -> list[str]:
    """Return the messages of an answer."""
    return [str(message) for message in get_messages(response.wsgi_request)]  # type: ignore[attr-defined]


def shown(**values: Any) -> dict[str, str]:
    """Return what a form says of the values that it has shown of a row."""
    return {"shown": json.dumps(values)}


def opened(client: Client, address: str) -> dict[str, Any]:
    """Return the fields of a form as a browser that has just opened it would send them back."""
    return fields(client.get(address))


def fields(response: HttpResponse) -> dict[str, Any]:
    """Return the fields of the form that an answer shows, as a browser would send them back."""
    context: Any = response.context  # type: ignore[attr-defined]
    sets = [inline.formset for inline in context["inline_admin_formsets"]]
    forms = [context["adminform"].form, *(form for each in sets for form in (each.management_form, *each))]
    values = {field.html_name: field.value() for form in forms for field in form}
    return {name: "" if value is None else value for name, value in values.items() if value is not False}
