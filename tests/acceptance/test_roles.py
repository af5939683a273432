"""The database of a first start: the application can only add to the audit trail."""

import psycopg

from engine.postgresql import roles


def test_application__can_only_add_to_the_trail_from_the_first_start_on(stack):
    with psycopg.connect(stack.application_url, autocommit=True) as application:
        assert application.execute(roles.OWNS).fetchone() == (False,)
    assert "can only add" in stack.manage("database_roles", "--check")
