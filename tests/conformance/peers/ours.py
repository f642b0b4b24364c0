"""This project as it is deployed, with a cache in front that is told of changes, and the probes beside it."""

from __future__ import annotations

from gallery_api.settings import *  # noqa: F403

ROOT_URLCONF = "conformance.peers.ours_urls"
KEYBITS_PURGERS = {"edge": {"BACKEND": "conformance.peers.edge.Edge"}}
