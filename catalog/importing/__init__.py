"""Importing: what a manifest may contain, and how each of its pictures becomes a screenshot.

The galleries are validated first. After that each picture is imported independently, so a bad one does not stop the
others. Rows that already agree with the manifest are not written. `docs/importing.md` is the reference of the format.
"""

from catalog.importing.manifests import Manifest, ManifestError, read_manifest, source_url
from catalog.importing.pictures import KeepingError
from catalog.importing.reports import Failure, Outcome, Report
from catalog.importing.rows import put_cover, put_gallery, put_screenshot
from catalog.importing.run import import_manifest

__all__ = [
    "Failure",
    "KeepingError",
    "Manifest",
    "ManifestError",
    "Outcome",
    "Report",
    "import_manifest",
    "put_cover",
    "put_gallery",
    "put_screenshot",
    "read_manifest",
    "source_url",
]
