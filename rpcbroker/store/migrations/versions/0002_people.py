"""Customers, API keys, activation of users, the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE tenant RENAME COLUMN name TO title")
    op.add_column("tenant", sa.Column("contact", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("tenant", sa.Column("additional_info", sa.JSON()))
    op.add_column("tenant", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.create_table(
        "customer",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("contact", sa.JSON(), nullable=False),
        sa.Column("additional_info", sa.JSON()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_customer"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_customer_tenant_id"),
        sa.UniqueConstraint("tenant_id", "title", name="uq_customer_tenant_id"),
    )
    op.add_column("user_account", sa.Column("activation_nonce", sa.Text()))
    op.add_column("user_account", sa.Column("activation_until", sa.BigInteger()))
    op.create_index("ix_user_account_tenant_id", "user_account", ["tenant_id"])
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("expiration_time", sa.BigInteger(), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("last_used_time", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_api_key_tenant_id"),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name="fk_api_key_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("digest", name="uq_api_key_digest"),
    )
    op.create_index("ix_api_key_user_id", "api_key", ["user_id"])
    op.create_table(
        "revoked_user",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_revoked_user"),
    )
    op.create_table(
        "audit",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid()),
        sa.Column("entity_type", sa.String(32), nullable=False),
        sa.Column("entity_id", sa.Uuid(), nullable=False),
        sa.Column("entity_name", sa.Text()),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON()),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit"),
    )
    op.create_index("ix_audit_newest", "audit", ["tenant_id", "created_time", "sequence"])
    op.create_index("ix_audit_created_time", "audit", ["created_time"])
