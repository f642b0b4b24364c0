"""Pictures: how they are measured and encoded, where their files are stored, and when files are removed."""
