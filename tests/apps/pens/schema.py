"""Brings the database up to date; run at each release."""

import os

import psycopg

with psycopg.connect(os.environ["DATABASE_URL"]) as link:
    link.execute("CREATE TABLE IF NOT EXISTS pen (colour text PRIMARY KEY, amount integer NOT NULL)")
