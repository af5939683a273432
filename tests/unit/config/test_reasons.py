"""Why a dependency does not answer: in words, and without what its error says of the inside."""

from __future__ import annotations

import psycopg
import pytest
import redis

from config import reasons

INSIDE = ("db.internal", "10.1.2.3", "engine_app", "s3cret", "5432", "/var/")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            psycopg.OperationalError(
                'connection to server at "db.internal" (10.1.2.3), port 5432 failed: FATAL:  '
                'password authentication failed for user "engine_app"'
            ),
            "refuses the sign-in",
        ),
        (
            psycopg.OperationalError("connection failed: port 5432 failed: Connection refused"),
            "refuses connections",
        ),
        (
            psycopg.OperationalError(
                'connection to server on socket "/var/x/.s.PGSQL.5432" failed: No such file or '
                "directory"
            ),
            "not running",
        ),
        (psycopg.OperationalError("the database gave no answer within 3 s"), "no answer in time"),
        (psycopg.OperationalError("connection timeout expired"), "no answer in time"),
        (psycopg.errors.QueryCanceled("canceling statement due to timeout"), "no answer in time"),
        (psycopg.OperationalError("FATAL: the database system is starting up"), "is starting"),
        (psycopg.OperationalError("FATAL: sorry, too many clients already"), "no connection left"),
        (
            psycopg.errors.UndefinedTable('relation "django_migrations" does not exist'),
            "lacks tables of this version: run python manage.py migrate",
        ),
        (psycopg.errors.UndefinedColumn('column "s3cret" does not exist'), "manage.py migrate"),
        (
            psycopg.OperationalError('FATAL:  database "engine" does not exist'),
            "the database or its role does not exist",
        ),
        (psycopg.OperationalError("s3cret nonsense"), "answers with an error (OperationalError)"),
        (redis.TimeoutError("Timeout reading from 10.1.2.3:6379"), "Redis gave no answer in time"),
        (redis.ConnectionError("Error 111 connecting to db.internal"), "refuses connections"),
        (redis.AuthenticationError("invalid password s3cret"), "refuses the sign-in"),
        (redis.BusyLoadingError("loading"), "loading its data"),
        (redis.ResponseError("OOM s3cret"), "answers with an error (ResponseError)"),
        (ValueError("s3cret"), "the look at it failed (ValueError)"),
    ],
)
def test_reasons__say_it_in_words_and_nothing_of_the_inside(error, words):
    found = reasons.of(error)
    assert words in found
    assert not [part for part in INSIDE if part in found]
