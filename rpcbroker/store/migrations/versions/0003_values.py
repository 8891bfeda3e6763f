"""Telemetry and attributes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "attribute",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.String(32), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("updated_time", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "scope", "key", name="pk_attribute"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_attribute_device_id", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "telemetry_latest",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("posted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "key", name="pk_telemetry_latest"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_telemetry_latest_device_id", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "telemetry_block",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "key", "slot", name="pk_telemetry_block"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_telemetry_block_device_id", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
