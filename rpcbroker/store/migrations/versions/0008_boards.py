"""Boards, and how presence changed lately."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "board",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid()),
        sa.Column("device_id", sa.Uuid()),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("updated_time", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_board"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_board_tenant_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name="fk_board_customer_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_board_device_id", ondelete="SET NULL"),
    )
    for column in ("tenant_id", "customer_id", "device_id"):
        op.create_index(f"ix_board_{column}", "board", [column])
    op.create_table(
        "presence_change",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("callable", sa.Boolean(), nullable=False),
        sa.Column("cause", sa.Text()),
        sa.PrimaryKeyConstraint("sequence", name="pk_presence_change"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_presence_change_device_id", ondelete="CASCADE"),
    )
    op.create_index("ix_presence_change_device_id", "presence_change", ["device_id", "sequence"])
    op.create_index("ix_presence_change_time", "presence_change", ["time"])
