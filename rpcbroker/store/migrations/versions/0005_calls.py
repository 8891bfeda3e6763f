"""Persistent calls."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "rpc",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("wire_id", sa.Integer(), nullable=False),
        sa.Column("oneway", sa.Boolean(), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("expiration_time", sa.BigInteger(), nullable=False),
        sa.Column("latest_time", sa.BigInteger(), nullable=False),
        sa.Column("due_time", sa.BigInteger(), nullable=False),
        sa.Column("ended_time", sa.BigInteger()),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(32)),
        sa.Column("device_error", sa.Boolean(), nullable=False),
        sa.Column("retries", sa.BigInteger()),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("unacknowledged", sa.Integer(), nullable=False),
        sa.Column("strategy", sa.String(64), nullable=False),
        sa.Column("omitted", sa.BigInteger(), nullable=False),
        sa.Column("method_sum", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("moments", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("response", sa.Text()),
        sa.Column("additional_info", sa.Text()),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_rpc"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_rpc_device_id", ondelete="CASCADE"),
    )
    goes_on, has_ended = sa.text("ended_time IS NULL"), sa.text("ended_time IS NOT NULL")
    for name, columns, where in (
        ("ix_rpc_wire_id", ["device_id", "wire_id"], goes_on),
        ("ix_rpc_due_time", ["due_time"], goes_on),
        ("ix_rpc_ended_time", ["ended_time"], has_ended),
    ):
        op.create_index(
            name, "rpc", columns, unique=name == "ix_rpc_wire_id", sqlite_where=where, postgresql_where=where
        )
    op.create_index("ix_rpc_of_device", "rpc", ["device_id", "created_time", "id", "method_sum"])
    op.create_index("ix_rpc_of_tenant", "rpc", ["tenant_id", "created_time", "id", "method_sum"])
    op.create_index("ix_rpc_status", "rpc", ["tenant_id", "status", "created_time", "id"])
