"""The tables, as SQLAlchemy Core sees them. A change here needs a migration, and a test finds that out.

A little over 400 lines: all tables are here.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

SCHEMA_VERSION = "0008"
"""The newest migration; a database that says otherwise is migrated, or refused if it is newer."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tenant = Table(
    "tenant",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("title", Text, nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("contact", JSON, nullable=False, server_default="{}"),
    Column("additional_info", JSON),
    Column("version", Integer, nullable=False, server_default="1"),
)
"""One row, NULL_UUID, is no organisation: it is what system administrators belong to."""

customer = Table(
    "customer",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenant.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("contact", JSON, nullable=False),
    Column("additional_info", JSON),
    Column("version", Integer, nullable=False),
    UniqueConstraint("tenant_id", "title"),
)

user = Table(
    "user_account",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenant.id"), nullable=False),
    Column("customer_id", Uuid),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("authority", String(32), nullable=False),
    Column("password_hash", Text),
    Column("activation_nonce", Text),
    Column("activation_until", BigInteger),
    Column("first_name", Text),
    Column("last_name", Text),
    Column("phone", Text),
    Column("enabled", Boolean, nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("additional_info", JSON),
    Column("version", Integer, nullable=False),
    Index("ix_user_account_tenant_id", "tenant_id"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenant.id"), nullable=False),
    Column("user_id", Uuid, ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
    Column("description", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("scope", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("expiration_time", BigInteger, nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("last_used_time", BigInteger),
    Index("ix_api_key_user_id", "user_id"),
)

device = Table(
    "device",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenant.id"), nullable=False),
    Column("customer_id", Uuid),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("label", Text),
    Column("created_time", BigInteger, nullable=False),
    Column("additional_info", JSON),
    Column("version", Integer, nullable=False),
    UniqueConstraint("tenant_id", "name"),
    Index("ix_device_customer_id", "customer_id"),
    Index("ix_device_created", "tenant_id", "created_time", "id"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("type", String(32), nullable=False),
    Column("credentials_id", Text, nullable=False, unique=True),
    Column("credentials_value", Text),
    Column("created_time", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
)

presence = Table(
    "presence",
    metadata,
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("connected_time", BigInteger),
    Column("connected_cause", Text),
    Column("disconnected_time", BigInteger),
    Column("disconnected_cause", Text),
    Column("seen_time", BigInteger),
    Column("seen_cause", Text),
)

presence_change = Table(
    "presence_change",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("connected", Boolean, nullable=False),
    Column("callable", Boolean, nullable=False),
    Column("cause", Text),
    Index("ix_presence_change_device_id", "device_id", "sequence"),
    Index("ix_presence_change_time", "time"),
)
"""`sequence` is the order of those of one millisecond."""

attribute = Table(
    "attribute",
    metadata,
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("scope", String(32), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("updated_time", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""`value` is JSON text, here and in telemetry."""

telemetry_latest = Table(
    "telemetry_latest",
    metadata,
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("ts", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("posted", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The point with the latest time, and how many were posted. Each key that has points has this row."""

telemetry_block = Table(
    "telemetry_block",
    metadata,
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("block", BigInteger, nullable=False),
    Column("points", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""The points posted last, several to a row: `,[number,ts,value]` of each, to be read as one JSON array.

`block` is their number divided, `slot` is the block modulo how many are kept: a new one takes the place of the oldest.
"""

provision_key = Table(
    "provision_key",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenant.id", ondelete="CASCADE"), nullable=False),
    Column("customer_id", Uuid, ForeignKey("customer.id", ondelete="SET NULL")),
    Column("key", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False),
    Column("device_type", Text, nullable=False),
    Column("strategy", String(32), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("last_used_time", BigInteger),
    Index("ix_provision_key_tenant_id", "tenant_id"),
)

provisioned = Table(
    "provisioned",
    metadata,
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("key_id", Uuid, nullable=False),
    Column("time", BigInteger, nullable=False),
)
"""Devices that came by a provision key, which may be gone by now: none comes twice."""

claim = Table(
    "claim",
    metadata,
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", Text, nullable=False),
    Column("until_time", BigInteger, nullable=False),
)

_GOES_ON, _HAS_ENDED = text("ended_time IS NULL"), text("ended_time IS NOT NULL")

rpc = Table(
    "rpc",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="CASCADE"), nullable=False),
    Column("wire_id", Integer, nullable=False),
    Column("oneway", Boolean, nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("expiration_time", BigInteger, nullable=False),
    Column("latest_time", BigInteger, nullable=False),
    Column("due_time", BigInteger, nullable=False),
    Column("ended_time", BigInteger),
    Column("status", String(32), nullable=False),
    Column("reason", String(32)),
    Column("device_error", Boolean, nullable=False),
    Column("retries", BigInteger),
    Column("max_retries", Integer, nullable=False),
    Column("unacknowledged", Integer, nullable=False),
    Column("strategy", String(64), nullable=False),
    Column("omitted", BigInteger, nullable=False),
    Column("method_sum", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("moments", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("response", Text),
    Column("additional_info", Text),
    Index("ix_rpc_wire_id", "device_id", "wire_id", unique=True, sqlite_where=_GOES_ON),
    Index("ix_rpc_due_time", "due_time", sqlite_where=_GOES_ON),
    Index("ix_rpc_ended_time", "ended_time", sqlite_where=_HAS_ENDED),
    Index("ix_rpc_of_device", "device_id", "created_time", "id", "method_sum"),
    Index("ix_rpc_of_tenant", "tenant_id", "created_time", "id", "method_sum"),
    Index("ix_rpc_status", "tenant_id", "status", "created_time", "id"),
)
"""Persistent calls. `ended_time` is NULL as long as one goes on: nothing else says so.

The indexes have their conditions on PostgreSQL too, by the migration; to say so here would load all of that dialect.

`params`, `response`, `additional_info` and `moments` are JSON text. `method_sum` is the CRC-32 of `method`, by which
other methods are passed over in an index, where a text of any length has no place. What may be large stands last, for
SQLite reads a row from its beginning.
"""

bulk = Table(
    "bulk",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("tenant_id", Uuid, ForeignKey("tenant.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("customer_id", Uuid),
    Column("user_name", Text, nullable=False),
    Column("narrowed", String(64), nullable=False),
    Column("content", String(64), nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text),
    Column("ended_time", BigInteger),
    Column("counts", JSON, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("request", JSON, nullable=False),
    UniqueConstraint("tenant_id", "id"),
    Index("ix_bulk_newest", "tenant_id", "created_time", "sequence"),
    Index("ix_bulk_ended_time", "ended_time"),
    sqlite_autoincrement=True,
)
"""`sequence` is never given twice: what is still written about a bulk that is gone must not be about another one."""

bulk_device = Table(
    "bulk_device",
    metadata,
    Column("bulk", BigInteger, ForeignKey("bulk.sequence", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("device_id", Uuid, nullable=False),
    Column("device_name", Text, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", String(64)),
    Column("ended", BigInteger),
    Column("response", Text),
    Index("ix_bulk_device_ended", "bulk", "ended"),
    sqlite_with_rowid=False,
)
"""No foreign key to the device: what is gone was called. `response` is JSON text.

`ended` numbers those of a bulk that have ended, in that order.
"""

rule_chain = Table(
    "rule_chain",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenant.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("root", Boolean, nullable=False),
    Column("debug", Boolean, nullable=False),
    Column("graph", LargeBinary, nullable=False),
    Column("additional_info", JSON),
    Column("created_time", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Index("ix_rule_chain_tenant_id", "tenant_id"),
)
"""`graph` is JSON text."""

relation = Table(
    "relation",
    metadata,
    Column("source", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("target", Uuid, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("type", Text, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("additional_info", JSON),
    Index("ix_relation_target", "target"),
)

board = Table(
    "board",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenant.id", ondelete="CASCADE"), nullable=False),
    Column("customer_id", Uuid, ForeignKey("customer.id", ondelete="SET NULL")),
    Column("device_id", Uuid, ForeignKey("device.id", ondelete="SET NULL")),
    Column("title", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created_time", BigInteger, nullable=False),
    Column("updated_time", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    *(Index(f"ix_board_{column}", column) for column in ("tenant_id", "customer_id", "device_id")),
)
"""`content` is JSON text."""

OF_DEVICE = (
    credentials,
    presence,
    presence_change,
    attribute,
    telemetry_latest,
    telemetry_block,
    provisioned,
    claim,
    rpc,
)
"""What is deleted with a device."""

revoked_session = Table(
    "revoked_session",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("until", BigInteger, nullable=False),
)

revoked_user = Table(
    "revoked_user",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("time", BigInteger, nullable=False),
)
"""Tokens of this user that were issued up to `time` are not good any more."""

counter = Table(
    "counter",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("created_time", BigInteger, nullable=False),
    Column("tenant_id", Uuid, nullable=False),
    Column("customer_id", Uuid),
    Column("entity_type", String(32), nullable=False),
    Column("entity_id", Uuid, nullable=False),
    Column("entity_name", Text),
    Column("user_id", Uuid, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("data", JSON),
    Column("failure", Text, nullable=False),
    Index("ix_audit_newest", "tenant_id", "created_time", "sequence"),
    Index("ix_audit_created_time", "created_time"),
)
"""No foreign keys: what is gone was there. `sequence` is the order of those of one millisecond."""
