"""Points of the learning curve, kept, so that the curve goes on when the page is served again."""

from sqlalchemy import insert, select

from audiorep.label.progress import Figures
from audiorep.label.queries import now
from audiorep.label.schema import points
from audiorep.label.store import Store


def add_point(store: Store, seen: int, figures: Figures) -> None:
    """Keep what is known after a round. seen: id of the last answer that was learned from."""
    with store.writing() as connection:
        connection.execute(insert(points).values(time=now(), seen=seen, **vars(figures)))


def all_points(store: Store) -> tuple[list[Figures], int]:
    """All points in order, and the `seen` of the last; 0: there is none."""
    columns = (points.c.labels, points.c.guessed, points.c.kappa, points.c.held_out, points.c.seen)
    with store.reading() as connection:
        found = connection.execute(select(*columns).order_by(points.c.id)).all()
    return [Figures(*row[:-1]) for row in found], found[-1].seen if found else 0
