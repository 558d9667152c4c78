"""The tables of the label store, for SQLite and PostgreSQL alike. Rows of `answers` are added, never changed."""

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    event,
)

VERSION = 2
"""Of these tables; it stands in `schema_version` of every store."""

TABLES = MetaData()

schema_version = Table("schema_version", TABLES, Column("version", Integer, primary_key=True, autoincrement=False))

clips = Table(
    "clips",
    TABLES,
    Column("id", String, primary_key=True),
    Column("path", String, nullable=False),  # of the recording, relative to the corpus
    Column("start", BigInteger, nullable=False),  # in samples of the recording
    Column("end", BigInteger, nullable=False),  # the first sample behind it
    Column("rate_hz", Integer, nullable=False),
    Column("channel", Integer, nullable=False),  # from 1; 0: the mean of all
    Column("group", String, nullable=False),
    UniqueConstraint("path", "start", "end", "channel"),
)

queries = Table(
    "queries",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("time", String, nullable=False),
    Column("model", String, nullable=False),
    Column("selector", String, nullable=False),
    Column("seed", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

query_clips = Table(
    "query_clips",
    TABLES,
    Column("query", Integer, ForeignKey("queries.id"), primary_key=True),
    Column("rank", Integer, primary_key=True),  # from 0, the most wanted
    Column("clip", String, ForeignKey("clips.id"), nullable=False),
    Column("score", Double),
)

answers = Table(
    "answers",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("clip", String, ForeignKey("clips.id"), nullable=False, index=True),
    Column("annotator", String, nullable=False, index=True),
    Column("time", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("source", String, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("start_s", Double),
    Column("end_s", Double),
    Column("low_hz", Double),
    Column("high_hz", Double),
    Column("model", String, nullable=False),
    Column("query", Integer, ForeignKey("queries.id")),
    Column("undoes", Integer, ForeignKey("answers.id")),
    Column("comment", String, nullable=False),
    Index("answers_undoes", "undoes"),
    sqlite_autoincrement=True,
)

points = Table(
    "points",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("time", String, nullable=False),
    Column("seen", Integer, nullable=False),  # the last answer that was learned from
    Column("labels", Integer, nullable=False),
    Column("guessed", Double),
    Column("kappa", Double),
    Column("held_out", Double),
    sqlite_autoincrement=True,
)

SINCE = {2: (points,)}
"""Tables that came with a version after the first."""

KEPT = "answers are only ever added: undo one by an answer of kind undo"

for change in ("UPDATE", "DELETE"):
    event.listen(
        answers,
        "after_create",
        DDL(
            f"CREATE TRIGGER answers_no_{change.lower()} BEFORE {change} ON answers"
            f" BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
        ).execute_if(dialect="sqlite"),
    )

for statement in (
    f"CREATE FUNCTION answers_are_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$",
    "CREATE TRIGGER answers_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON answers"
    " FOR EACH STATEMENT EXECUTE FUNCTION answers_are_kept()",
):
    event.listen(answers, "after_create", DDL(statement).execute_if(dialect="postgresql"))
