"""The admin's page: what is done, each person's count and pace, and how far people agree."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response

from .. import agreement, outcomes
from ..judging import Rules
from ..store import Store
from ..tables import Answer, Judgement, Lease, Person
from .shared import HTMX, Me, Ours, allow

routes = APIRouter()


@routes.get("/progress")
def progress(request: Request, site: Ours, person: Me) -> Response:
    allow(person, "admin")
    if HTMX in request.headers:
        return site.page(request, "counts", **_counted(site.store, site.rules))
    figures = agreement.by_criterion(outcomes.ratings(site.store), draws=0)  # no intervals here
    return site.page(request, "progress", figures=figures, **_counted(site.store, site.rules))


def _counted(store: Store, rules: Rules) -> dict[str, Any]:
    """Answers that are complete, begun, disputed and all; each person's count and pace, in answers an hour."""
    with store.reading() as session:
        total = session.scalar(sa.select(sa.func.count()).select_from(Answer)) or 0
        done = session.scalars(sa.select(sa.func.count()).where(Lease.done).group_by(Lease.answer_id)).all()
        mine = dict(session.execute(sa.select(Lease.person_id, sa.func.count()).where(Lease.done).group_by(Lease.person_id)).all())  # type: ignore[arg-type]
        spans = sa.select(Judgement.person_id, sa.func.min(Judgement.at), sa.func.max(Judgement.at)).group_by(Judgement.person_id)
        hours = {who: (last - first).total_seconds() / 3600 for who, first, last in session.execute(spans)}
        rows = []
        for one in session.scalars(sa.select(Person).order_by(Person.id)):
            many, spent = mine.get(one.id, 0), hours.get(one.id, 0)
            rows.append({"name": one.name, "role": one.role, "answers": many, "pace": many / spent if spent > 0.05 else None})
    complete = sum(number >= rules.overlap for number in done)
    disputed = len({answer for answer, _, _ in outcomes.disagreements(store)})
    return {
        "total": total, "complete": complete, "begun": len(done) - complete, "rows": rows, "overlap": rules.overlap, "disputes": disputed,
    }  # fmt: skip
