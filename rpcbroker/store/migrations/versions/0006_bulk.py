"""Requests for many devices."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "bulk",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid()),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("narrowed", sa.String(64), nullable=False),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("ended_time", sa.BigInteger()),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_bulk"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_bulk_tenant_id", ondelete="CASCADE"),
        sa.UniqueConstraint("tenant_id", "id", name="uq_bulk_tenant_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_bulk_newest", "bulk", ["tenant_id", "created_time", "sequence"])
    op.create_index("ix_bulk_ended_time", "bulk", ["ended_time"])
    op.create_table(
        "bulk_device",
        sa.Column("bulk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("device_name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("ended", sa.BigInteger()),
        sa.Column("response", sa.Text()),
        sa.PrimaryKeyConstraint("bulk", "number", name="pk_bulk_device"),
        sa.ForeignKeyConstraint(["bulk"], ["bulk.sequence"], name="fk_bulk_device_bulk", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_bulk_device_ended", "bulk_device", ["bulk", "ended"])
