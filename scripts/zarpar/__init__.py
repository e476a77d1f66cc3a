"""Zarpar: takes a Python web app from a Git checkout to HTTPS on your own servers."""
