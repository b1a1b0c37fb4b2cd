"""SQL about people that both engines share. No I/O."""

from __future__ import annotations

SELECT_CURSOR = "SELECT arrival FROM joined"
COUNT_PENDING = """
    SELECT count(*) FROM (
        SELECT 1 FROM joined CROSS JOIN triggers
        WHERE triggers.arrival > joined.arrival AND triggers.arrival <= ? LIMIT ?
    ) AS pending
"""
SELECT_PERSON_OF_ACTOR = "SELECT person FROM actors WHERE digest = ?"
SELECT_IDENTITY = "SELECT name, value, actors, is_joining FROM identities WHERE digest = ?"
SELECT_PERSON_OF_IDENTITY = """
    SELECT actors.person FROM identities CROSS JOIN links CROSS JOIN actors
    WHERE identities.digest = ? AND links.identity = identities.identity AND actors.actor = links.actor LIMIT 1
"""
SELECT_SHARED = """
    SELECT name, value, actors FROM identities WHERE is_joining = 0 AND actors > 1 ORDER BY actors DESC LIMIT ?
"""
_PEOPLE = """
    SELECT person, count(*) AS actors, sum(triggers) AS triggers, min(first_seen) AS first_seen,
        max(last_seen) AS last_seen
"""
SELECT_PEOPLE = f"{_PEOPLE} FROM given CROSS JOIN actors WHERE actors.person = given.number GROUP BY actors.person"
SELECT_ACTORS = "SELECT actor FROM given CROSS JOIN actors WHERE actors.digest = given.digest"
SELECT_NOT_JOINING = """
    SELECT identities.digest FROM given CROSS JOIN identities
    WHERE identities.digest = given.digest AND is_joining = 0
"""
SELECT_CARRIERS = """
    SELECT actor FROM given CROSS JOIN identities CROSS JOIN links
    WHERE identities.digest = given.digest AND links.identity = identities.identity
"""
ALL = "true"


def matching(like: str) -> str:
    """Return a condition with two placeholders: patterns for an actor id, and for an identity's JSON."""
    return f"""
        person IN (
            SELECT person FROM actors WHERE {like.format("actor_id")}
            UNION
            SELECT actors.person FROM identities CROSS JOIN links CROSS JOIN actors
            WHERE {like.format("identities.value")}
            AND links.identity = identities.identity AND actors.actor = links.actor
        )
    """


def list_people(condition: str) -> str:
    """Return a statement with three more placeholders: last_seen and number to begin after, and the limit.

    Each row begins with how many people there are in all; without people there is one row, of that and nulls.
    """
    return f"""
        WITH people AS ({_PEOPLE} FROM actors WHERE {condition} GROUP BY person)
        SELECT total, page.* FROM (SELECT count(*) AS total FROM people) AS counted
        LEFT JOIN (
            SELECT * FROM people WHERE (last_seen, person) < (?, ?)
            ORDER BY last_seen DESC, person DESC LIMIT ?
        ) AS page ON true ORDER BY last_seen DESC, person DESC
    """


def actor_ids(shown: int) -> str:
    return f"""
        SELECT person, actor_id FROM (
            SELECT actors.person, actor_id, last_seen, row_number() OVER (
                PARTITION BY actors.person ORDER BY last_seen DESC, actor_id
            ) AS place
            FROM given CROSS JOIN actors WHERE actors.person = given.number
        ) AS ranked
        WHERE place <= {shown:d} ORDER BY person, place
    """


def identities(shown: int) -> str:
    return f"""
        SELECT person, name, value, actors, is_joining FROM (
            SELECT person, name, value, actors, is_joining, row_number() OVER (
                PARTITION BY person, is_joining ORDER BY name, value
            ) AS place
            FROM (
                SELECT DISTINCT actors.person, name, value, identities.actors, is_joining
                FROM given CROSS JOIN actors CROSS JOIN links CROSS JOIN identities
                WHERE actors.person = given.number AND links.actor = actors.actor
                AND identities.identity = links.identity
            ) AS carried
        ) AS ranked
        WHERE place <= {shown:d} ORDER BY person, place
    """


def attributes(shown: int) -> str:
    return f"""
        SELECT person, name, value FROM (
            SELECT actors.person, name, value,
                dense_rank() OVER (PARTITION BY actors.person ORDER BY name) AS place,
                row_number() OVER (
                    PARTITION BY actors.person, name ORDER BY recorded_at DESC, value DESC
                ) AS latest
            FROM given CROSS JOIN actors CROSS JOIN attributes
            WHERE actors.person = given.number AND attributes.actor = actors.actor
        ) AS ranked
        WHERE latest = 1 AND place <= {shown:d} ORDER BY person, place
    """
