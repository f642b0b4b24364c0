"""What the staff does on the lists of the admin, and what it is told."""

from __future__ import annotations

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
