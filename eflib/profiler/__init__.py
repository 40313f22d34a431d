"""Scaling curves of this cluster's own jobs: kept in files, and kept true by live steps."""
