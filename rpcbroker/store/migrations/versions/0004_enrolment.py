"""Provision keys, what came by them, and what devices offer to be claimed by."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "provision_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid()),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("device_type", sa.Text(), nullable=False),
        sa.Column("strategy", sa.String(32), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("last_used_time", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_provision_key"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_provision_key_tenant_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name="fk_provision_key_customer_id", ondelete="SET NULL"
        ),
        sa.UniqueConstraint("key", name="uq_provision_key_key"),
    )
    op.create_index("ix_provision_key_tenant_id", "provision_key", ["tenant_id"])
    op.create_table(
        "provisioned",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name="pk_provisioned"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_provisioned_device_id", ondelete="CASCADE"),
    )
    op.create_table(
        "claim",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("until_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name="pk_claim"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_claim_device_id", ondelete="CASCADE"),
    )
