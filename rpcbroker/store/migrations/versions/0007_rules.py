"""Rule chains, and relations between devices."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "rule_chain",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("root", sa.Boolean(), nullable=False),
        sa.Column("debug", sa.Boolean(), nullable=False),
        sa.Column("graph", sa.LargeBinary(), nullable=False),
        sa.Column("additional_info", sa.JSON()),
        sa.Column("created_time", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rule_chain"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_rule_chain_tenant_id", ondelete="CASCADE"),
    )
    op.create_index("ix_rule_chain_tenant_id", "rule_chain", ["tenant_id"])
    op.create_table(
        "relation",
        sa.Column("source", sa.Uuid(), nullable=False),
        sa.Column("target", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("additional_info", sa.JSON()),
        sa.PrimaryKeyConstraint("source", "target", "type", name="pk_relation"),
        sa.ForeignKeyConstraint(["source"], ["device.id"], name="fk_relation_source", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["target"], ["device.id"], name="fk_relation_target", ondelete="CASCADE"),
    )
    op.create_index("ix_relation_target", "relation", ["target"])
