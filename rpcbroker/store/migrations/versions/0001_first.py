"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "tenant",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenant"),
    )
    op.create_table(
        "user_account",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid()),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("authority", sa.String(32), nullable=False),
        sa.Column("password_hash", sa.Text()),
        sa.Column("first_name", sa.Text()),
        sa.Column("last_name", sa.Text()),
        sa.Column("phone", sa.Text()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("additional_info", sa.JSON()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user_account"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_user_account_tenant_id"),
        sa.UniqueConstraint("email_key", name="uq_user_account_email_key"),
    )
    op.create_table(
        "device",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("label", sa.Text()),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("additional_info", sa.JSON()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_device"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_device_tenant_id"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_device_tenant_id"),
    )
    op.create_index("ix_device_customer_id", "device", ["customer_id"])
    op.create_index("ix_device_created", "device", ["tenant_id", "created_time", "id"])
    op.create_table(
        "credentials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("credentials_id", sa.Text(), nullable=False),
        sa.Column("credentials_value", sa.Text()),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_credentials_device_id", ondelete="CASCADE"),
        sa.UniqueConstraint("device_id", name="uq_credentials_device_id"),
        sa.UniqueConstraint("credentials_id", name="uq_credentials_credentials_id"),
    )
    op.create_table(
        "presence",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("connected_time", sa.BigInteger()),
        sa.Column("connected_cause", sa.Text()),
        sa.Column("disconnected_time", sa.BigInteger()),
        sa.Column("disconnected_cause", sa.Text()),
        sa.Column("seen_time", sa.BigInteger()),
        sa.Column("seen_cause", sa.Text()),
        sa.PrimaryKeyConstraint("device_id", name="pk_presence"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_presence_device_id", ondelete="CASCADE"),
    )
    op.create_table(
        "revoked_session",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_revoked_session"),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
    )
