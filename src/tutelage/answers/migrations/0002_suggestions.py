"""What a model suggested to whoever judged, and which one"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE judgement ADD COLUMN suggestion INTEGER CONSTRAINT judgement_suggestion CHECK (suggestion in (0, 1))")
    op.execute("ALTER TABLE judgement ADD COLUMN suggester VARCHAR(200)")


def downgrade() -> None:
    for name in ("suggestion", "suggester"):
        op.execute(f"ALTER TABLE judgement DROP COLUMN {name}")
