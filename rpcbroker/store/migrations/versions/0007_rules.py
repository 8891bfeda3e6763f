"""Rule chains, and relations between devices: from each gateway to the children that came through it last."""

from typing import Any
from uuid import UUID

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
    _relate_children()


def _relate_children() -> None:
    """As the broker does from now on when a child comes."""
    connection = op.get_bind()
    device = sa.table(
        "device", sa.column("id", sa.Uuid()), sa.column("tenant_id", sa.Uuid()), sa.column("additional_info", sa.JSON())
    )
    relation = sa.table(
        "relation",
        sa.column("source", sa.Uuid()),
        sa.column("target", sa.Uuid()),
        sa.column("type", sa.Text()),
        sa.column("tenant_id", sa.Uuid()),
    )
    says = sa.cast(device.c.additional_info, sa.Text()).contains("lastConnectedGateway")
    children = {
        (row.tenant_id, row.id): gateway
        for row in connection.execute(sa.select(device).where(says))
        if (gateway := _gateway(row.additional_info)) is not None and gateway != row.id
    }
    wanted = sorted(set(children.values()))
    tenants: dict[UUID, UUID] = {}
    for start in range(0, len(wanted), 500):
        some = sa.select(device.c.id, device.c.tenant_id).where(device.c.id.in_(wanted[start : start + 500]))
        tenants |= {row.id: row.tenant_id for row in connection.execute(some)}
    rows = [
        {"source": gateway, "target": child, "type": "Created", "tenant_id": tenant}
        for (tenant, child), gateway in children.items()
        if tenants.get(gateway) == tenant
    ]
    if rows:
        connection.execute(sa.insert(relation), rows)


def _gateway(info: Any) -> UUID | None:
    """The gateway that a device's additional info names, which anybody may have written."""
    try:
        return UUID(info["lastConnectedGateway"])
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
