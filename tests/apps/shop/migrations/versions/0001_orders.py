"""Orders, parcels and runs of tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "order",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("cents", sa.Integer()),
    )
    op.create_table(
        "wanted",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_table("parcel", sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False))
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("number", sa.Integer()),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("run")
    op.drop_table("parcel")
    op.drop_table("wanted")
    op.drop_table("order")
